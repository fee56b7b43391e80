// Vectors of single-precision numbers, as wide as the instruction set that this file is compiled for, and the functions
// that the kernels need. They use GCC's and Clang's vector extensions. Only AVX-512 needs its own header, for rounding
// and scaling instructions.
//
// Everything here is static, because one library contains the same names compiled for several instruction sets.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * kWidth)));
typedef int32_t IntVec __attribute__((vector_size(4 * kWidth)));
typedef uint32_t UnsignedVec __attribute__((vector_size(4 * kWidth)));

constexpr float kLog2E = 1.4426950408889634f;

#define INLINE static inline __attribute__((always_inline))
#define INLINE_MEMBER inline __attribute__((always_inline))

INLINE Vec splat(float a) { return Vec{} + a; }

INLINE Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

INLINE void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

// The first `count` numbers of a vector, the rest zero.
INLINE Vec load_some(const float* p, int64_t count) {
  if (count >= kWidth) return load(p);
  Vec v = {};
  std::memcpy(&v, p, static_cast<size_t>(count) * sizeof(float));
  return v;
}

INLINE void store_some(float* p, Vec v, int64_t count) {
  if (count >= kWidth) {
    store(p, v);
  } else {
    std::memcpy(p, &v, static_cast<size_t>(count) * sizeof(float));
  }
}

INLINE Vec vmax(Vec a, Vec b) { return a > b ? a : b; }
INLINE Vec vmin(Vec a, Vec b) { return a < b ? a : b; }

// 2^z for z <= 127, with a relative error of at most 2e-7. Below 2^-126 it is zero or as small. NaN stays NaN.
#ifdef __AVX512F__

// 2^(j/32), j = 0 .. 31: two registers that one instruction looks up.
alignas(64) constexpr float kRoots[32] = {
    1.0f,          1.0218971487f, 1.0442737824f, 1.0671404007f, 1.0905077327f, 1.1143867426f, 1.1387886348f,
    1.1637248588f, 1.1892071150f, 1.2152473600f, 1.2418578121f, 1.2690509572f, 1.2968395547f, 1.3252366432f,
    1.3542555469f, 1.3839098820f, 1.4142135624f, 1.4451808070f, 1.4768261459f, 1.5091644276f, 1.5422108254f,
    1.5759808451f, 1.6104903319f, 1.6457554782f, 1.6817928305f, 1.7186192981f, 1.7562521604f, 1.7947090750f,
    1.8340080864f, 1.8741676341f, 1.9152065614f, 1.9571441242f};

INLINE Vec exp2_of_product(Vec a, Vec b) {
  const float magic = 1.5f * (1 << 18);  // adding it rounds to a multiple of 1/32 and puts its index into the low bits
  const Vec shifted = a * b + magic;
  const Vec rounded = shifted - magic;
  const Vec f = a * b - rounded;  // |f| <= 1/64
  // Near 2^0 the difference from 1 matters: the error of a slow decay grows with every token that it remembers.
  const Vec slope = (f * 0.0555041087f + 0.2402265070f) * f + 0.6931471806f;
  const Vec root = (Vec)_mm512_permutex2var_ps((__m512)load(kRoots), (__m512i)shifted, (__m512)load(kRoots + 16));
  // Multiply by 2^floor(rounded). If that is minus infinity the product is zero, although f is NaN.
  return (Vec)_mm512_scalef_ps((__m512)(root * f * slope + root), (__m512)rounded);
}

#else

INLINE Vec exp2_of_product(Vec a, Vec b) {
  Vec z = a * b;
  z = z < -126.0f ? splat(-126.0f) : z;
  const Vec magic = z + 12582912.0f;  // 1.5 * 2^23: puts the integer part into the low bits
  const Vec f = z - (magic - 12582912.0f);
  // Minimax for relative error over [-1/2, 1/2], with 2^0 = 1 exactly.
  Vec p = splat(0.00015353361959569156f);
  p = p * f + 0.0013398873852565885f;
  p = p * f + 0.00961843691766262f;
  p = p * f + 0.055503323674201965f;
  p = p * f + 0.24022647738456726f;
  p = p * f + 0.6931471824645996f;
  p = p * f + 1.0f;
  return (Vec)((UnsignedVec)p + ((UnsignedVec)magic << 23));  // of NaN the sum wraps around
}

#endif

// exp(z) for z <= 88, minus infinity included. Zero or as small for very negative z.
INLINE Vec exp(Vec z) { return exp2_of_product(z < -150.0f ? splat(-150.0f) : z, splat(kLog2E)); }

// 1 / (1 + exp(-v)).
INLINE Vec sigmoid(Vec v) { return 1.0f / (1.0f + exp(vmin(-v, splat(87.0f)))); }

// The derivative of v * sigmoid(v), given s = sigmoid(v).
INLINE Vec silu_slope(Vec v, Vec s) { return s * (1.0f + v * (1.0f - s)); }

// log(1 + exp(v)), with full relative accuracy if it is small. `slope` gets its derivative, sigmoid(v).
INLINE Vec softplus(Vec v, Vec* slope) {
  const Vec size = v < 0.0f ? v : -v;
  const Vec e = exp(size);
  const Vec inverse = 1.0f / (1.0f + e);
  *slope = v < 0.0f ? e * inverse : inverse;
  // log(1 + e) = 2 artanh(s), s = e / (2 + e) <= 1/3.
  const Vec s = e / (2.0f + e);
  const Vec s2 = s * s;
  Vec p = splat(0.1400599330663681f);
  p = p * s2 + 0.14000903069972992f;
  p = p * s2 + 0.2001076340675354f;
  p = p * s2 + 0.3333320915699005f;
  p = p * s2 + 1.0f;
  const Vec positive = v < 0.0f ? splat(0.0f) : v;
  return positive + 2.0f * s * p;
}

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (IntVec){__VA_ARGS__})
#endif

// Four vectors to one: in each group of four lanes, lane j is the sum of that group's four lanes of v_j.
INLINE Vec gather4(Vec v0, Vec v1, Vec v2, Vec v3) {
#if defined(__AVX512F__)
  const Vec a = SHUFFLE(v0, v1, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
                SHUFFLE(v0, v1, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const Vec b = SHUFFLE(v2, v3, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
                SHUFFLE(v2, v3, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  return SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
         SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
#elif defined(__AVX2__)
  const Vec a = SHUFFLE(v0, v1, 0, 8, 1, 9, 4, 12, 5, 13) + SHUFFLE(v0, v1, 2, 10, 3, 11, 6, 14, 7, 15);
  const Vec b = SHUFFLE(v2, v3, 0, 8, 1, 9, 4, 12, 5, 13) + SHUFFLE(v2, v3, 2, 10, 3, 11, 6, 14, 7, 15);
  return SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13) + SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
#else
  const Vec a = SHUFFLE(v0, v1, 0, 4, 1, 5) + SHUFFLE(v0, v1, 2, 6, 3, 7);
  const Vec b = SHUFFLE(v2, v3, 0, 4, 1, 5) + SHUFFLE(v2, v3, 2, 6, 3, 7);
  return SHUFFLE(a, b, 0, 1, 4, 5) + SHUFFLE(a, b, 2, 3, 6, 7);
#endif
}

// Lane j of the sum over a vector's groups of four lanes.
INLINE void sum_groups(Vec v, float out[4]) {
  for (int j = 0; j < 4; ++j) {
    float total = 0.0f;
    for (int lane = j; lane < kWidth; lane += 4) total += v[lane];
    out[j] = total;
  }
}

}  // namespace
