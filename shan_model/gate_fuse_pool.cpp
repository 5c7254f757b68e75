// Gate, fuse and pool (SHAN Eq. 8 and 9) for every pair of a block, float32, forward only; called by native.py.
//
// For own item k (N vectors), other item l (M vectors) and attention weights a (N x M, rows sum to 1):
//   x_n = own_gate_n + sum_m a_nm other_gate_m          the gate before its sigmoid (identity 4)
//   h_n = sigmoid(x_n) * (own_n - sum_m a_nm other_m)   what the gate adds to the attended vector
//   gamma = softmax_n(attended_logit_n + pool . h_n),   gated = sum_n gamma_n h_n
// so that the context of Eq. 9 is gated + sum_nm gamma_n a_nm other_m. Only h is as wide as D for each n, and it
// lives in the cache of one core. Arrays of width D come in panels: item x (D / 64) x vectors x 64.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {
constexpr int kLanes = 16, kVectors = 4, kPanel = kLanes * kVectors;
constexpr int kRows = 6;  // 6 x 4 accumulators and 4 operands fit the 32 registers of AVX-512
typedef float Floats __attribute__((vector_size(kLanes * sizeof(float)), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * sizeof(int32_t)), aligned(4)));

inline Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
inline void store(float* to, Floats value) { *reinterpret_cast<Floats*>(to) = value; }

// 1 / (1 + exp(-x)); exp by Cody-Waite reduction and the polynomial of Cephes' expf (2 ulp).
inline Floats sigmoid(Floats x) {
  Floats y = -x;
  y = y < -87.0f ? Floats{} - 87.0f : y;
  y = y > 87.0f ? Floats{} + 87.0f : y;
  const Ints power = __builtin_convertvector(y * 1.44269504f + (y < 0.0f ? Floats{} - 0.5f : Floats{} + 0.5f), Ints);
  const Floats whole = __builtin_convertvector(power, Floats);
  const Floats r = (y - whole * 0.693359375f) + whole * 2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Ints bits = (power + 127) << 23;
  Floats scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return 1.0f / (1.0f + p * scale);
}

// sums[row] += sign * sum_m weights[row][m] other[m], one panel wide.
template <int ROWS>
inline void mix(Floats (&sums)[ROWS][kVectors], const float* weights, const float* other, int64_t M, float sign) {
  for (int64_t m = 0; m < M; ++m) {
    Floats operand[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) operand[v] = load(other + m * kPanel + v * kLanes);
#pragma GCC unroll 6
    for (int row = 0; row < ROWS; ++row) {
      const float weight = sign * weights[row * M + m];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[row][v] += weight * operand[v];
    }
  }
}

template <int ROWS>
inline void read(Floats (&sums)[ROWS][kVectors], const float* from) {
#pragma GCC unroll 6
  for (int row = 0; row < ROWS; ++row)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[row][v] = load(from + row * kPanel + v * kLanes);
}

// One panel of ROWS vectors: writes h, adds its share of pool . h to the logits.
template <int ROWS>
inline void gate(const float* own, const float* own_gate, const float* other, const float* other_gate,
                 const float* weights, const float* pool, int64_t M, float* h, float* logits) {
  Floats sums[ROWS][kVectors];
  read(sums, own_gate);
  mix(sums, weights, other_gate, M, 1.0f);
  for (int row = 0; row < ROWS; ++row)
    for (int v = 0; v < kVectors; ++v) store(h + row * kPanel + v * kLanes, sigmoid(sums[row][v]));
  read(sums, own);
  mix(sums, weights, other, M, -1.0f);
  for (int row = 0; row < ROWS; ++row) {
    Floats dot = Floats{};
    for (int v = 0; v < kVectors; ++v) {
      float* place = h + row * kPanel + v * kLanes;
      const Floats value = load(place) * sums[row][v];
      store(place, value);
      dot += value * load(pool + v * kLanes);
    }
    for (int lane = 0; lane < kLanes; ++lane) logits[row] += dot[lane];
  }
}

void softmax(float* values, int64_t count) {
  const float top = *std::max_element(values, values + count);
  float sum = 0.0f;
  for (int64_t n = 0; n < count; ++n) sum += values[n] = std::exp(values[n] - top);
  for (int64_t n = 0; n < count; ++n) values[n] /= sum;
}
}  // namespace

// Pairs (k, l) of own items k_begin <= k < k_end and other items 0 <= l < L, or (k, k) if L is 0. A pair has its N x M weights, its N gammas (in:
// attended logits) and its D gated values at place k * k_stride + l * l_stride.
extern "C" void gate_fuse_pool(const float* own, const float* own_gate, const float* other, const float* other_gate,
                               const float* weights, const float* pool, float* gammas, float* gated, int64_t k_begin,
                               int64_t k_end, int64_t L, int64_t N, int64_t M, int64_t D, int64_t k_stride,
                               int64_t l_stride) {
  std::vector<float> h(N * D);
  const auto pair = [&](int64_t k, int64_t l) {
    const int64_t place = k * k_stride + l * l_stride;
    const float* a = weights + place * N * M;
    float* gamma = gammas + place * N;
    for (int64_t d = 0; d < D; d += kPanel) {
      const float *v = own + (k * D + d) * N, *g = own_gate + (k * D + d) * N;
      const float *t = other + (l * D + d) * M, *s = other_gate + (l * D + d) * M;
      float* to = h.data() + d * N;
      int64_t n = 0;
      for (; n + kRows <= N; n += kRows)
        gate<kRows>(v + n * kPanel, g + n * kPanel, t, s, a + n * M, pool + d, M, to + n * kPanel, gamma + n);
      for (; n + 2 <= N; n += 2)
        gate<2>(v + n * kPanel, g + n * kPanel, t, s, a + n * M, pool + d, M, to + n * kPanel, gamma + n);
      if (n < N) gate<1>(v + n * kPanel, g + n * kPanel, t, s, a + n * M, pool + d, M, to + n * kPanel, gamma + n);
    }
    softmax(gamma, N);
    for (int64_t d = 0; d < D; d += kPanel) {
      Floats sums[1][kVectors] = {};
      mix(sums, gamma, h.data() + d * N, N, 1.0f);
      for (int v = 0; v < kVectors; ++v) store(gated + place * D + d + v * kLanes, sums[0][v]);
    }
  };
  // The larger item stays in the cache while the smaller ones pass by.
  if (L == 0) {
    for (int64_t k = k_begin; k < k_end; ++k) pair(k, k);
  } else if (N >= M) {
    for (int64_t k = k_begin; k < k_end; ++k)
      for (int64_t l = 0; l < L; ++l) pair(k, l);
  } else {
    for (int64_t l = 0; l < L; ++l)
      for (int64_t k = k_begin; k < k_end; ++k) pair(k, l);
  }
}
