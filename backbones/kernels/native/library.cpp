// The C interface of the library. It picks the widest instruction set of this processor and distributes groups of rows
// to threads. Results do not depend on which thread computes a group.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "program.h"

extern const Kernels backbench_generic;
#ifdef BACKBENCH_HAS_AVX2
extern const Kernels backbench_avx2;
#endif
#ifdef BACKBENCH_HAS_AVX512
extern const Kernels backbench_avx512;
#endif

namespace {

// From the narrowest to the widest, null-terminated.
const Kernels* const kSets[] = {
    &backbench_generic,
#ifdef BACKBENCH_HAS_AVX2
    &backbench_avx2,
#endif
#ifdef BACKBENCH_HAS_AVX512
    &backbench_avx512,
#endif
    nullptr};

bool runs_here(const Kernels& kernels) {
#if defined(__x86_64__) || defined(__i386__)
  if (std::strcmp(kernels.name, "avx512") == 0) return __builtin_cpu_supports("avx512f");
  if (std::strcmp(kernels.name, "avx2") == 0) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return true;
}

std::atomic<const Kernels*> chosen{nullptr};

const Kernels& kernels() {
  const Kernels* found = chosen.load();
  if (!found) {
    for (int i = 0; kSets[i]; ++i)
      if (runs_here(*kSets[i])) found = kSets[i];
    chosen.store(found);
  }
  return *found;
}

int64_t size_of(const ScanArguments& a) { return a.batch * a.length * a.channels * a.state; }
int64_t size_of(const ConvArguments& a) { return a.batch * a.length * a.channels * a.taps; }
int64_t size_of(const DiagonalArguments& a) { return a.batch * a.length * a.width; }

int64_t line(int64_t count) { return (count + 15) / 16 * 16; }

std::vector<float> decays(const ScanArguments& a) {
  const int64_t width = padded(a.channels);
  std::vector<float> out(static_cast<size_t>(decays_size(a)), 0.0f);
  for (int64_t c = 0; c < a.channels; ++c)
    for (int64_t n = 0; n < a.state; ++n)
      out[static_cast<size_t>(n * width + c)] = a.A[c * a.state + n] * 1.4426950408889634f;
  return out;
}

std::vector<float> taps_first(const ConvArguments& a) {
  std::vector<float> out(static_cast<size_t>(a.channels * a.taps));
  for (int64_t c = 0; c < a.channels; ++c)
    for (int64_t k = 0; k < a.taps; ++k) out[static_cast<size_t>(k * a.channels + c)] = a.weight[c * a.taps + k];
  return out;
}

// While it exists, numbers below 1e-38 are zero. Many processors are slow with such numbers, which vanishing states
// have. Every thread sets it, because the setting holds for one thread only.
class NoSubnormals {
#if defined(__x86_64__)
  const unsigned before = __builtin_ia32_stmxcsr();

 public:
  NoSubnormals() { __builtin_ia32_ldmxcsr(before | 0x8040); }
  ~NoSubnormals() { __builtin_ia32_ldmxcsr(before); }
#else
 public:
  NoSubnormals() {}  // not trivial, so compilers do not warn about an unused variable
#endif
};

constexpr int64_t kWorthAThread = 1 << 18;  // in numbers: about 0.1 ms of work, a few times the cost of a thread

// Calls work(group, scratch) for every group of rows. `size` is how many numbers are computed in total. Returns false
// if there is no memory for the scratch.
template <typename Work>
bool share(int64_t batch, int64_t size, int64_t threads, int64_t scratch, Work work) {
  const int64_t count = groups(batch);
  if (threads > size / kWorthAThread) threads = size / kWorthAThread;
  if (threads > count) threads = count;
  if (threads < 1) threads = 1;
  const size_t bytes = static_cast<size_t>(line(scratch) + 16) * sizeof(float);
  std::vector<float*> memory(static_cast<size_t>(threads), nullptr);
  bool enough = true;
  for (float*& part : memory) {
    part = static_cast<float*>(std::aligned_alloc(64, bytes));
    enough = enough && part;
  }
  if (enough) {
    std::atomic<int64_t> next{0};
    auto run = [&](float* own) {
      const NoSubnormals guard;
      for (int64_t group = next++; group < count; group = next++) work(group, own);
    };
    std::vector<std::thread> others;
    for (int64_t i = 1; i < threads; ++i) {
      try {
        others.emplace_back(run, memory[static_cast<size_t>(i)]);
      } catch (const std::exception&) {
        break;  // no more threads available: the existing ones do the work
      }
    }
    run(memory[0]);
    for (std::thread& other : others) other.join();
  }
  for (float* part : memory) std::free(part);
  return enough;
}

}  // namespace

// In numbers, not bytes.
int64_t forward_scratch(const ScanArguments& a) {
  const int64_t states = padded_states(a.state), width = padded(a.channels), size = part_size(a), vec = 16;
  const int64_t chunk = 3 * (size + a.window) * vec, kept = (size + 1) * kBlock * vec;
  return states * width + line((size + a.window) * states) + line(size * states) + kept + size * vec + chunk;
}

int64_t backward_scratch(const ScanArguments& a) {
  const int64_t states = padded_states(a.state), width = padded(a.channels), size = part_size(a), vec = 16;
  const int64_t carried = (kLongestDirect - 1) * states * width, inputs = 2 * line((size + a.window) * states);
  const int64_t chunk = 3 * (size + a.window) * vec, kept = kLongestDirect * (size + 1) * kBlock * vec;
  const int64_t sums = 3 * size * states / kBlock * vec, parts = 5 * size * vec;
  const int64_t later = a.window ? 2 * size * width : 0;
  return carried + inputs + chunk + kept + sums + parts + later;
}

int64_t scratch_of(const Program& p, const Operation& o) {
  if (o.kind == kConvolve) return o.width * o.size;
  if (o.kind == kAttend) return 2 * padded(o.other);
  if (o.kind != kScan && o.kind != kScanWindow) return 0;
  const int64_t length = o.count + (o.kind == kScanWindow ? o.mode - 1 : 0), tokens = p.batch * length;
  ScanArguments a = {p.batch, length, o.width, o.size};
  a.window = o.mode;
  a.window = window_of(a);
  const int64_t tables = o.kind == kScan ? 0 : 3 * line(tokens * o.width) + 2 * line(tokens * o.size);
  return decays_size(a) + tables + forward_scratch(a);
}

extern "C" {

// The version of this interface. The caller refuses a library of another version.
int64_t backbench_interface() { return 3; }

const char* backbench_instruction_set() { return kernels().name; }

// Name of the i-th instruction set that the library has and this processor supports, from the narrowest to the widest.
// Null past the last.
const char* backbench_instruction_set_at(int64_t i) {
  for (int k = 0; kSets[k]; ++k)
    if (runs_here(*kSets[k]) && i-- == 0) return kSets[k]->name;
  return nullptr;
}

// For tests: use this instruction set. False if it is missing.
int64_t backbench_use(const char* name) {
  for (int i = 0; kSets[i]; ++i)
    if (std::strcmp(kSets[i]->name, name) == 0 && runs_here(*kSets[i])) {
      chosen.store(kSets[i]);
      return 1;
    }
  return 0;
}

int64_t backbench_saved_size(const ScanArguments* a) { return saved_size(*a); }
int64_t backbench_groups(int64_t batch) { return groups(batch); }
int64_t backbench_padded(int64_t channels) { return padded(channels); }

// Each returns 1, or 0 if there was no memory.
int64_t backbench_scan_forward(const ScanForward* given, int64_t threads) try {
  const Kernels& k = kernels();
  const std::vector<float> own = decays(given->in);
  ScanForward f = *given;
  f.in.decays = own.data();
  f.in.window = window_of(f.in);
  return share(f.in.batch, size_of(f.in), threads, forward_scratch(f.in),
               [&](int64_t group, float* scratch) { k.scan_forward(f, group, scratch); });
} catch (...) {
  return 0;
}

int64_t backbench_scan_backward(const ScanBackward* given, int64_t threads) try {
  const Kernels& k = kernels();
  const std::vector<float> own = decays(given->in);
  ScanBackward b = *given;
  b.in.decays = own.data();
  b.in.window = window_of(b.in);
  return share(b.in.batch, size_of(b.in), threads, backward_scratch(b.in),
               [&](int64_t group, float* scratch) { k.scan_backward(b, group, scratch); });
} catch (...) {
  return 0;
}

int64_t backbench_conv_forward(const ConvArguments* given, float* y, int64_t threads) try {
  const Kernels& k = kernels();
  const std::vector<float> own = taps_first(*given);
  ConvArguments a = *given;
  a.taps_first = own.data();
  return share(a.batch, size_of(a), threads, 0, [&](int64_t group, float*) { k.conv_forward(a, y, group); });
} catch (...) {
  return 0;
}

int64_t backbench_conv_backward(const ConvBackward* given, int64_t threads) try {
  const Kernels& k = kernels();
  const std::vector<float> own = taps_first(given->in);
  ConvBackward b = *given;
  b.in.taps_first = own.data();
  return share(b.in.batch, size_of(b.in), threads, 2 * b.in.taps * kWidest,
               [&](int64_t group, float* scratch) { k.conv_backward(b, group, scratch); });
} catch (...) {
  return 0;
}

int64_t backbench_diagonal_forward(const DiagonalForward* f, int64_t threads) try {
  const Kernels& k = kernels();
  return share(f->in.batch, size_of(f->in), threads, f->in.width,
               [&](int64_t group, float* scratch) { k.diagonal_forward(*f, group, scratch); });
} catch (...) {
  return 0;
}

// Numbers in the program's scratch. Its own pointers may still be null.
int64_t backbench_program_scratch(const Program* p) {
  int64_t most = 0;
  for (const Operation* o = p->operations; o < p->operations + p->length; ++o) most = std::max(most, scratch_of(*p, *o));
  return most;
}

int64_t backbench_program(const Program* p) {
  const NoSubnormals guard;
  kernels().run_program(*p);
  return 1;
}

int64_t backbench_diagonal_backward(const DiagonalBackward* b, int64_t threads) try {
  const Kernels& k = kernels();
  return share(b->in.batch, size_of(b->in), threads, b->in.width,
               [&](int64_t group, float* scratch) { k.diagonal_backward(*b, group, scratch); });
} catch (...) {
  return 0;
}
}
