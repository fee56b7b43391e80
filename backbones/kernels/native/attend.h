// Attention over a cache of keys and values, whose slots are in no order.
#pragma once

#include "product.h"

namespace {

INLINE float sum_of(Vec v) {
  float total = 0.0f;
  for (int i = 0; i < kWidth; ++i) total += v[i];
  return total;
}

// out[s] = scale * (q . keys[s]) for four keys: their loads and sums hide each other's latency.
INLINE void dots(const float* q, const float* const keys[4], int64_t count, float scale, float* out) {
  Vec sum[4] = {};
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    const Vec part = load(q + i);
    for (int s = 0; s < 4; ++s) sum[s] += part * load(keys[s] + i);
  }
  if (i < count)
    for (int s = 0; s < 4; ++s) sum[s] += load_some(q + i, count - i) * load_some(keys[s] + i, count - i);
  float four[4];
  sum_groups(gather4(sum[0], sum[1], sum[2], sum[3]), four);
  for (int s = 0; s < 4; ++s) out[s] = scale * four[s];
}

// Scores to weights that sum to 1. Up to the next whole vector, scores are minus infinity.
void softmax(float* scores, int64_t count) {
  Vec most = splat(-__builtin_inff()), total = {};
  for (int64_t i = count; i % kWidth; ++i) scores[i] = -__builtin_inff();
  for (int64_t i = 0; i < count; i += kWidth) most = vmax(most, load(scores + i));
  float top = most[0];
  for (int i = 1; i < kWidth; ++i) top = most[i] > top ? most[i] : top;
  for (int64_t i = 0; i < count; i += kWidth) {
    const Vec e = exp(load(scores + i) - top);
    store(scores + i, e);
    total += e;
  }
  const float scale = 1.0f / sum_of(total);
  for (int64_t i = 0; i < count; i += kWidth) store(scores + i, load(scores + i) * scale);
}

// One row's cache: (slots, 2, groups, head), and the number of the token in each slot.
struct Cache {
  float* data;
  int64_t* numbers;
  int64_t slots, groups, head;
  float* key(int64_t slot, int64_t group) const { return data + (slot * 2 * groups + group) * head; }
  float* value(int64_t slot, int64_t group) const { return key(slot, group) + groups * head; }
};

// out = the values in `used` slots, averaged with `weights`.
void average(const Cache& c, int64_t group, const float* weights, const int32_t* used, int64_t count, float* out) {
  constexpr int64_t kTogether = 4 * kWidth;
  int64_t i = 0;
  for (; i + kTogether <= c.head; i += kTogether) {
    Vec sum[4] = {};
    for (int64_t s = 0; s < count; ++s) {
      const float* value = c.value(used[s], group) + i;
      for (int v = 0; v < 4; ++v) sum[v] += load(value + v * kWidth) * weights[s];
    }
    for (int v = 0; v < 4; ++v) store(out + i + v * kWidth, sum[v]);
  }
  for (; i < c.head; i += kWidth) {
    Vec sum = {};
    for (int64_t s = 0; s < count; ++s) sum += load_some(c.value(used[s], group) + i, c.head - i) * weights[s];
    store_some(out + i, sum, c.head - i);
  }
}

// Slots of the tokens that token `now` sees: of its last `window`, or if that is 0 from the first step on that the
// longest context still holds.
int64_t seen_slots(const Operation& o, const Cache& c, int64_t now, int32_t* used) {
  int64_t first = now + 1 > o.most ? (now + 1 - o.most + o.step - 1) / o.step * o.step : 0, count = 0;
  if (o.combine && now - o.combine + 1 > first) first = now - o.combine + 1;
  for (int64_t s = 0; s < c.slots; ++s)
    if (c.numbers[s] >= first && c.numbers[s] <= now) used[count++] = int32_t(s);
  return count;
}

// Table `in`: queries, keys and values side by side; `out` the results of each token, or with `mode` of the last one.
void attend(const Program& p, const Operation& o) {
  const int64_t head = o.size / o.heads, slots = o.other;
  const float scale = 1.0f / __builtin_sqrtf(float(head));
  float* scores = p.scratch;
  int32_t* used = reinterpret_cast<int32_t*>(p.scratch + padded(slots));
  for (int64_t b = 0; b < p.batch; ++b) {
    const Cache c = {o.state + b * slots * 2 * o.groups * head, o.numbers + b * slots, slots, o.groups, head};
    const float* rows = p.tables + o.in + b * o.count * o.width;
    const int64_t before = o.seen[b];
    for (int64_t t = 0; t < o.count; ++t) {
      const int64_t slot = (before + t) % slots;
      std::memcpy(c.key(slot, 0), rows + t * o.width + o.size, static_cast<size_t>(2 * o.groups * head) * sizeof(float));
      c.numbers[slot] = before + t;
    }
    o.seen[b] += o.count;
    for (int64_t t = o.mode ? o.count - 1 : 0; t < o.count; ++t) {
      const int64_t count = seen_slots(o, c, before + t, used);
      for (int64_t h = 0; h < o.heads; ++h) {
        const int64_t group = h / (o.heads / o.groups);
        const float* q = rows + t * o.width + h * head;
        for (int64_t s = 0; s < count; s += 4) {
          const float* keys[4];
          for (int j = 0; j < 4; ++j) keys[j] = c.key(used[s + j < count ? s + j : count - 1], group);
          dots(q, keys, head, scale, scores + s);
        }
        softmax(scores, count);
        average(c, group, scores, used, count, p.tables + o.out + (b * o.count + t) * o.size + h * head);
      }
    }
  }
}

}  // namespace
