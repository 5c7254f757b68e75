// The per-pair computations of scoring on a CPU: float32, forward only; called by native.py.
//
// Pairs (k, l) of query items k_begin <= k < k_end (N vectors each) and key items 0 <= l < L (M vectors each); pairs
// (k, k) if L is 0. The data of a pair are at index k * k_stride + l * l_stride.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {
constexpr int kPanel = 64;  // contiguous channels of an array; PANEL of native.py
// A tile of kRows vectors and kTile channels is computed at once; its accumulators stay in registers.
#ifdef __AVX512F__
constexpr int kLanes = 16, kRows = 6;  // 6 x 4 accumulators and 4 operands fit 32 registers
#else
constexpr int kLanes = 8, kRows = 3;  // 3 x 4 accumulators fit the 16 registers of AVX2
#endif
constexpr int kVectors = 4, kTile = kLanes * kVectors;
static_assert(kPanel % kTile == 0, "a tile must not cross a panel");
typedef float Floats __attribute__((vector_size(kLanes * sizeof(float)), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * sizeof(int32_t)), aligned(4)));

inline Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
inline void store(float* to, Floats value) { *reinterpret_cast<Floats*>(to) = value; }

// exp by Cody-Waite reduction and the polynomial of Cephes' expf (2 ulp); arguments are clamped to +-87.
inline Floats exponential(Floats y) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the last bits
  y = y < -87.0f ? Floats{} - 87.0f : y;
  y = y > 87.0f ? Floats{} + 87.0f : y;
  const Floats rounded = y * 1.44269504f + kRound;
  const Floats power = rounded - kRound;
  const Floats r = (y - power * 0.693359375f) + power * 2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.0f);
  Ints bits, shift;
  std::memcpy(&bits, &p, sizeof bits);
  std::memcpy(&shift, &rounded, sizeof shift);
  bits += shift << 23;  // times 2^power
  Floats result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

inline float sum(Floats values) {
  float total = 0.0f;
  for (int lane = 0; lane < kLanes; ++lane) total += values[lane];
  return total;
}

// The place of channel d in an array of `count` vectors, which has them panel after panel.
inline int64_t channel(int64_t d, int64_t count) { return d / kPanel * kPanel * count + d % kPanel; }

// sums[row] += sign * sum_m weights[row][m] key[m], one tile wide.
template <int ROWS>
inline void mix(Floats (&sums)[ROWS][kVectors], const float* weights, const float* key, int64_t M, float sign) {
  for (int64_t m = 0; m < M; ++m) {
    Floats operand[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) operand[v] = load(key + m * kPanel + v * kLanes);
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

// One tile of ROWS vectors: writes h and adds this tile's part of pool . h to the logits.
template <int ROWS>
inline void gate(const float* query, const float* query_gate, const float* key, const float* key_gate,
                 const float* weights, const float* pool, int64_t M, float* h, float* logits) {
  Floats sums[ROWS][kVectors];
  read(sums, query_gate);
  mix(sums, weights, key_gate, M, 1.0f);
  for (int row = 0; row < ROWS; ++row)
    for (int v = 0; v < kVectors; ++v) store(h + row * kPanel + v * kLanes, sigmoid(sums[row][v]));
  read(sums, query);
  mix(sums, weights, key, M, -1.0f);
  for (int row = 0; row < ROWS; ++row) {
    Floats dot = Floats{};
    for (int v = 0; v < kVectors; ++v) {
      float* place = h + row * kPanel + v * kLanes;
      const Floats value = load(place) * sums[row][v];
      store(place, value);
      dot += value * load(pool + v * kLanes);
    }
    logits[row] += sum(dot);
  }
}

void softmax(float* values, int64_t count) {
  const float top = *std::max_element(values, values + count);
  float total = 0.0f;
  for (int64_t n = 0; n < count; ++n) total += values[n] = std::exp(values[n] - top);
  for (int64_t n = 0; n < count; ++n) values[n] /= total;
}

// Calls pair(k, l) for each pair; the inner loop runs over the smaller items, so that the larger one stays cached.
template <typename Pair>
inline void every_pair(int64_t k_begin, int64_t k_end, int64_t L, bool query_is_larger, Pair pair) {
  if (L == 0) {
    for (int64_t k = k_begin; k < k_end; ++k) pair(k, k);
  } else if (query_is_larger) {
    for (int64_t k = k_begin; k < k_end; ++k)
      for (int64_t l = 0; l < L; ++l) pair(k, l);
  } else {
    for (int64_t l = 0; l < L; ++l)
      for (int64_t k = k_begin; k < k_end; ++k) pair(k, l);
  }
}
}  // namespace

// Contexts (SHAN Eq. 8 to 14, one direction). With attention weights a (N x M, rows sum to 1):
//   x_n = query_gate_n + sum_m a_nm key_gate_m            gate before its sigmoid
//   h_n = sigmoid(x_n) * (query_n - sum_m a_nm key_m)     what the gate adds to the attended vector
//   gamma = softmax_n(logit_n + pool . h_n)               logit_n: pooling logit of the attended vector
//   context = sum_n gamma_n h_n + sum_nm gamma_n a_nm key_m
//   attended = sum_m softmax_m(cos(context, key_m)) key_m
// Only h has width D for each n, and it fits the cache of one core. Arrays of width D are in panels: item x (D / 64) x
// vectors x 64. Each pair has N x M weights and N logits; the kernel writes cos(context, attended) and
// context + attended (D).
extern "C" void context(const float* query, const float* query_gate, const float* key, const float* key_gate,
                        const float* norms, const float* weights, const float* logits, const float* pool,
                        float* cosines, float* globals, int64_t k_begin, int64_t k_end, int64_t L, int64_t N, int64_t M,
                        int64_t k_stride, int64_t l_stride, int64_t D) {
  std::vector<float> h(N * D), gamma(N), mixed(M), similar(M);
  std::vector<Floats> products(M);
  every_pair(k_begin, k_end, L, N >= M, [&](int64_t k, int64_t l) {
    const int64_t place = k * k_stride + l * l_stride;
    const float *a = weights + place * N * M, *keys = key + l * D * M;
    std::copy_n(logits + place * N, N, gamma.begin());
    for (int64_t d = 0; d < D; d += kTile) {
      const int64_t of_query = channel(d, N), of_key = channel(d, M);
      const float *v = query + k * D * N + of_query, *g = query_gate + k * D * N + of_query;
      const float *t = keys + of_key, *s = key_gate + l * D * M + of_key;
      float* to = h.data() + of_query;
      int64_t n = 0;
      for (; n + kRows <= N; n += kRows)
        gate<kRows>(v + n * kPanel, g + n * kPanel, t, s, a + n * M, pool + d, M, to + n * kPanel, &gamma[n]);
      for (; n + 2 <= N; n += 2)
        gate<2>(v + n * kPanel, g + n * kPanel, t, s, a + n * M, pool + d, M, to + n * kPanel, &gamma[n]);
      if (n < N) gate<1>(v + n * kPanel, g + n * kPanel, t, s, a + n * M, pool + d, M, to + n * kPanel, &gamma[n]);
    }
    softmax(gamma.data(), N);
    std::fill(mixed.begin(), mixed.end(), 0.0f);
    for (int64_t n = 0; n < N; ++n)
      for (int64_t m = 0; m < M; ++m) mixed[m] += gamma[n] * a[n * M + m];

    float* to = globals + place * D;
    Floats square = Floats{};
    std::fill(products.begin(), products.end(), Floats{});
    for (int64_t d = 0; d < D; d += kTile) {
      Floats sums[1][kVectors] = {};
      mix(sums, gamma.data(), h.data() + channel(d, N), N, 1.0f);
      mix(sums, mixed.data(), keys + channel(d, M), M, 1.0f);
      for (int v = 0; v < kVectors; ++v) {
        store(to + d + v * kLanes, sums[0][v]);
        square += sums[0][v] * sums[0][v];
      }
      for (int64_t m = 0; m < M; ++m)
        for (int v = 0; v < kVectors; ++v) products[m] += sums[0][v] * load(keys + channel(d, M) + m * kPanel + v * kLanes);
    }
    const float length = std::sqrt(sum(square));
    for (int64_t m = 0; m < M; ++m) {
      similar[m] = sum(products[m]);
      mixed[m] = similar[m] / std::max(length * norms[l * M + m], 1e-8f);
    }
    softmax(mixed.data(), M);
    float product = 0.0f;
    for (int64_t m = 0; m < M; ++m) product += mixed[m] * similar[m];
    square = Floats{};
    for (int64_t d = 0; d < D; d += kTile) {
      Floats sums[1][kVectors] = {};
      mix(sums, mixed.data(), keys + channel(d, M), M, 1.0f);
      for (int v = 0; v < kVectors; ++v) {
        square += sums[0][v] * sums[0][v];
        store(to + d + v * kLanes, load(to + d + v * kLanes) + sums[0][v]);
      }
    }
    cosines[place] = product / std::max(length * std::sqrt(sum(square)), 1e-8f);
  });
}

// Attention (SHAN Eq. 4 and 5) and its cosines (Eq. 6): weights = softmax over m of the logits,
//   cosine_n = sum_m weights_nm dots_nm / (norm_n * |attended_n|),   |attended_n|^2 = weights_n gram weights_n,
// and sums_n = sum_m weights_nm value_m. Each pair has logits and dots, N x M with strides n_stride and m_stride; the
// kernel writes weights (N x M), cosines (N) and sums (N). gram (M x V) and values (V) of a key item are padded with
// zeros from M to V, a multiple of kLanes.
extern "C" void attend(const float* logits, const float* dots, const float* norms, const float* gram,
                       const float* values, float* weights, float* cosines, float* sums, int64_t k_begin, int64_t k_end,
                       int64_t L, int64_t N, int64_t M, int64_t k_stride, int64_t l_stride, int64_t V, int64_t n_stride,
                       int64_t m_stride) {
  std::vector<float> row(V, 0.0f), dot(V, 0.0f);
  every_pair(k_begin, k_end, L, N >= M, [&](int64_t k, int64_t l) {
    const int64_t place = k * k_stride + l * l_stride;
    for (int64_t n = 0; n < N; ++n) {
      const float *from = logits + place * N * M + n * n_stride, *dots_n = dots + place * N * M + n * n_stride;
      float top = from[0];
      for (int64_t m = 1; m < M; ++m) top = std::max(top, from[m * m_stride]);
      for (int64_t m = 0; m < M; ++m) {
        row[m] = from[m * m_stride] - top;
        dot[m] = dots_n[m * m_stride];
      }
      for (int64_t v = 0; v < V; v += kLanes) store(&row[v], exponential(load(&row[v])));
      std::fill(row.begin() + M, row.end(), 0.0f);
      Floats total = Floats{};
      for (int64_t v = 0; v < V; v += kLanes) total += load(&row[v]);
      const float scale = 1.0f / sum(total);
      Floats product = Floats{}, value = Floats{}, square = Floats{};
      for (int64_t v = 0; v < V; v += kLanes) {
        const Floats weight = load(&row[v]) * scale;
        store(&row[v], weight);
        product += weight * load(&dot[v]);
        value += weight * load(values + l * V + v);
      }
      for (int64_t v = 0; v < V; v += kLanes) {
        Floats even = Floats{}, odd = Floats{};  // two sums, so that an addition need not wait for the one before
        const float* column = gram + l * M * V + v;
        int64_t m = 0;
        for (; m + 2 <= M; m += 2) {
          even += row[m] * load(column + m * V);
          odd += row[m + 1] * load(column + (m + 1) * V);
        }
        if (m < M) even += row[m] * load(column + m * V);
        square += (even + odd) * load(&row[v]);
      }
      std::copy_n(row.begin(), M, weights + (place * N + n) * M);
      const float length = norms[k * N + n] * std::sqrt(std::max(sum(square), 1e-16f));
      cosines[place * N + n] = sum(product) / std::max(length, 1e-8f);
      sums[place * N + n] = sum(value);
    }
  });
}
