// The MoD block as one in-place operator for CPUs; deployed_block.py uses it.
//
// The block computes little: in plain PyTorch, calling its fifteen or so operators, each with cold
// caches, takes longer than their arithmetic. This operator reads the map once to pool it. After
// that it reads only the k selected channels and the k channels that they are added to.
//
// Compiled without -ffast-math, so that NaN stays NaN. `omp simd` lets the compiler reorder sums.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace {

using Floats = std::vector<float>;

constexpr int64_t CACHE_LINE = 16;  // floats
constexpr int64_t TILE = 1024;      // pixels whose sums fit into the L1 cache
constexpr int64_t GRAIN = 32768;    // values that make a thread worth starting, as in torch
// How many values are summed at once, so that rounding errors stay small.
constexpr int64_t PLANE_CHUNK = 4096;  // pixels of a channel
constexpr int64_t SHARE = 512;         // pixels, channels-last

// A feature map (N, C, H, W), contiguous or channels-last.
struct Map {
  float* data;
  int64_t samples, channels, height, width;
  int64_t channel_stride, pixel_stride;

  int64_t pixels() const { return height * width; }
  float* sample(int64_t n) const { return data + n * channels * pixels(); }
};

// The selected channels as planes with a margin of zeros as wide as the largest dilation. A 3x3
// convolution is then one long loop over rows and margins, without conditions.
struct Planes {
  int64_t height, width, margin;

  int64_t row() const { return width + 2 * margin; }
  int64_t size() const { return (height + 2 * margin) * row(); }
  int64_t at(int64_t y) const { return (y + margin) * row() + margin; }  // where a row starts
  int64_t begin() const { return at(0); }
  int64_t end() const { return at(height - 1) + width; }
};

// A convolution with bias. `weight`: (outputs, inputs, taps).
struct Layer {
  int64_t inputs, outputs, taps, dilation;
  bool relu;
  const float *weight, *bias;
};

// Run in parallel, with enough work for each thread; `work_each` is the work of one index.
template <class Function>
void parallel(int64_t begin, int64_t end, int64_t work_each, const Function& function) {
  const int64_t grain = GRAIN / std::max<int64_t>(work_each, 1);
  at::parallel_for(begin, end, std::max<int64_t>(grain, 1), function);
}

// ---- The channel selector: the global average, two fully connected layers, the k best.

float sum(const float* values, int64_t count) {
  // Four sums, so that additions do not wait for each other.
  const int64_t quarter = count / 4;
  float a = 0, b = 0, c = 0, d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
  for (int64_t i = 0; i < quarter; ++i) {
    a += values[i];
    b += values[i + quarter];
    c += values[i + 2 * quarter];
    d += values[i + 3 * quarter];
  }
  for (int64_t i = 4 * quarter; i < count; ++i) a += values[i];
  return (a + b) + (c + d);
}

float dot(const float* left, const float* right, int64_t count) {
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < count; ++i) total += left[i] * right[i];
  return total;
}

void sum_planes(const Map& x, Floats& sums) {
  const int64_t pixels = x.pixels();
  parallel(0, x.samples * x.channels, pixels, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane)
      for (int64_t start = 0; start < pixels; start += PLANE_CHUNK)
        sums[plane] += sum(x.data + plane * pixels + start, std::min(PLANE_CHUNK, pixels - start));
  });
}

// Add pixels, which are rows of all channels, to a row of sums.
void add_pixels(const float* rows, int64_t count, int64_t channels, float* __restrict__ sums) {
  int64_t pixel = 0;
  for (; pixel + 4 <= count; pixel += 4) {
    const float* row = rows + pixel * channels;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c)
      sums[c] += (row[c] + row[c + channels]) + (row[c + 2 * channels] + row[c + 3 * channels]);
  }
  for (; pixel < count; ++pixel)
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) sums[c] += rows[pixel * channels + c];
}

// The shares depend only on the size of the map, so that results depend neither on the batch nor on
// the number of threads.
void sum_pixels(const Map& x, Floats& sums) {
  const int64_t shares = std::max<int64_t>(8, (x.pixels() + SHARE - 1) / SHARE);
  const int64_t share = (x.pixels() + shares - 1) / shares;
  Floats parts(x.samples * shares * x.channels);
  parallel(0, x.samples * shares, share * x.channels, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = part % shares * share;
      const int64_t count = std::min(share, x.pixels() - first);
      add_pixels(x.sample(part / shares) + first * x.channels, count, x.channels,
                 &parts[part * x.channels]);
    }
  });
  for (int64_t n = 0; n < x.samples; ++n)
    add_pixels(&parts[n * shares * x.channels], shares, x.channels, &sums[n * x.channels]);
}

// The global average of every channel, (N, C).
Floats pool(const Map& x) {
  Floats means(x.samples * x.channels);
  x.pixel_stride == 1 ? sum_planes(x, means) : sum_pixels(x, means);
  for (float& mean : means) mean /= x.pixels();
  return means;
}

float relu(float value) { return value < 0 ? 0 : value; }

// A fully connected layer without bias: (N, columns) -> (N, rows). `weights`: (rows, columns).
Floats fully_connected(const Floats& inputs, const float* weights, int64_t rows, int64_t columns,
                       bool with_relu) {
  const int64_t samples = inputs.size() / columns;
  Floats outputs(samples * rows);
  // Each weight is read once for all samples: late maps have fewer values than the layer weights.
  parallel(0, rows, samples * columns, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t n = 0; n < samples; ++n) {
        const float value = dot(weights + row * columns, &inputs[n * columns], columns);
        outputs[n * rows + row] = with_relu ? relu(value) : value;
      }
  });
  return outputs;
}

// The channels with the k highest logits, highest first; NaN is the highest. If logits are equal,
// the lower channel comes first, as in kernels.py. No two channels rank equal, so both algorithms
// give the same result.
std::vector<int32_t> select_channels(const float* logits, int64_t channels, int64_t k) {
  std::vector<int32_t> index(channels);
  std::iota(index.begin(), index.end(), 0);
  const auto above = [logits](int32_t a, int32_t b) {
    return logits[a] > logits[b] || (std::isnan(logits[a]) && !std::isnan(logits[b]));
  };
  const auto higher = [above](int32_t a, int32_t b) {
    return above(a, b) || (a < b && !above(b, a));
  };
  if (k * 64 <= channels) {
    std::partial_sort(index.begin(), index.begin() + k, index.end(), higher);
  } else {
    std::nth_element(index.begin(), index.begin() + k - 1, index.end(), higher);
    std::sort(index.begin(), index.begin() + k - 1, higher);
  }
  index.resize(k);
  return index;
}

// ---- The Conv-Block on the k channels of a sample.

void gather(const Map& x, const float* sample, const std::vector<int32_t>& index,
            const Planes& planes, Floats& target) {
  const int64_t k = index.size(), stride = x.pixel_stride;
  const int64_t work = x.width * k * (stride == 1 ? 1 : CACHE_LINE);
  parallel(0, x.height, work, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      const float* source = sample + y * x.width * stride;
      float* row = &target[planes.at(y)];
      if (stride == 1)
        for (int64_t i = 0; i < k; ++i)
          std::copy_n(source + index[i] * x.channel_stride, x.width, row + i * planes.size());
      else
        for (int64_t column = 0; column < x.width; ++column)
          for (int64_t i = 0; i < k; ++i)
            row[i * planes.size() + column] = source[column * stride + index[i]];
    }
  });
}

// Multiply by the scores and add to the channels from `start` on, in place.
void fuse(const Map& x, float* sample, int64_t start, const Floats& scores, const Planes& planes,
          const Floats& processed) {
  const int64_t k = scores.size(), stride = x.pixel_stride;
  const int64_t work = x.width * k * (stride == 1 ? 1 : CACHE_LINE);
  parallel(0, x.height, work, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      float* target = sample + start * x.channel_stride + y * x.width * stride;
      const float* row = &processed[planes.at(y)];
      if (stride == 1)
        for (int64_t i = 0; i < k; ++i)
          for (int64_t column = 0; column < x.width; ++column)
            target[i * x.channel_stride + column] += scores[i] * row[i * planes.size() + column];
      else
        for (int64_t column = 0; column < x.width; ++column)
          for (int64_t i = 0; i < k; ++i)
            target[column * stride + i] += scores[i] * row[i * planes.size() + column];
    }
  });
}

// Add one input plane, convolved with one filter, to one output plane.
template <int TAPS>
void add_filtered(const float* __restrict__ source, const float* weight, const int64_t* offsets,
                  int64_t count, float* __restrict__ target) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    float total = target[i];
    for (int tap = 0; tap < TAPS; ++tap) total += weight[tap] * source[i + offsets[tap]];
    target[i] = total;
  }
}

// Apply a layer to the pixels from `begin` to `end`, including the margins between rows.
template <int TAPS>
void convolve_pixels(const Layer& layer, const Planes& planes, const Floats& source, Floats& target,
                     int64_t begin, int64_t end) {
  int64_t offsets[TAPS] = {0};
  for (int tap = 0; TAPS == 9 && tap < TAPS; ++tap)
    offsets[tap] = layer.dilation * ((tap / 3 - 1) * planes.row() + tap % 3 - 1);
  for (int64_t start = begin; start < end; start += TILE) {
    const int64_t count = std::min(TILE, end - start);
    for (int64_t out = 0; out < layer.outputs; ++out) {
      float* result = &target[out * planes.size() + start];
      std::fill_n(result, count, layer.bias[out]);
      for (int64_t in = 0; in < layer.inputs; ++in)
        add_filtered<TAPS>(&source[in * planes.size() + start],
                           &layer.weight[(out * layer.inputs + in) * TAPS], offsets, count, result);
      if (layer.relu)
        for (int64_t i = 0; i < count; ++i) result[i] = relu(result[i]);
    }
  }
}

void clear_margins(const Planes& planes, int64_t count, Floats& values) {
  for (int64_t plane = 0; plane < count; ++plane)
    for (int64_t y = 0; y + 1 < planes.height; ++y) {
      const int64_t end_of_row = plane * planes.size() + planes.at(y) + planes.width;
      std::fill_n(values.begin() + end_of_row, 2 * planes.margin, 0);
    }
}

void convolve(const Layer& layer, const Planes& planes, const Floats& source, Floats& target) {
  // A product takes a fraction of the time of reading a value from memory.
  const int64_t work = layer.inputs * layer.outputs * layer.taps / 4;
  parallel(planes.begin(), planes.end(), work, [&](int64_t begin, int64_t end) {
    layer.taps == 1 ? convolve_pixels<1>(layer, planes, source, target, begin, end)
                    : convolve_pixels<9>(layer, planes, source, target, begin, end);
  });
  clear_margins(planes, layer.outputs, target);
}

// Select, process, multiply by the scores and fuse: one sample.
void process_sample(const Map& x, int64_t n, const float* logits, const std::vector<Layer>& layers,
                    bool last) {
  const int64_t k = layers.front().inputs;
  int64_t widest = k;
  Planes planes{x.height, x.width, 0};
  for (const Layer& layer : layers) {
    widest = std::max(widest, layer.outputs);
    if (layer.taps > 1) planes.margin = std::max(planes.margin, layer.dilation);
  }
  const std::vector<int32_t> index = select_channels(logits, x.channels, k);
  Floats scores;
  scores.reserve(k);
  for (const int32_t channel : index) scores.push_back(1 / (1 + std::exp(-logits[channel])));
  // Copied first, because the fusion may overwrite selected channels.
  Floats values(widest * planes.size()), processed(widest * planes.size());
  gather(x, x.sample(n), index, planes, values);
  for (const Layer& layer : layers) {
    convolve(layer, planes, values, processed);
    values.swap(processed);
  }
  fuse(x, x.sample(n), last ? x.channels - k : 0, scores, planes, values);
}

// ---- The arguments from torch.

// The operator's `weights`: the selector's two layers, then weight and bias of each convolution.
// `layers` has five numbers for each: inputs, outputs, kernel size, dilation and ReLU.
struct Weights {
  const float *fc1, *fc2;
  std::vector<Layer> layers;

  Weights(const at::Tensor& packed, int64_t channels, int64_t hidden, at::IntArrayRef numbers) {
    const float* next = packed.const_data_ptr<float>();
    const float* end = next + packed.numel();
    const auto take = [&next](int64_t count) {
      const float* taken = next;
      next += count;
      return taken;
    };
    fc1 = take(hidden * channels);
    fc2 = take(channels * hidden);
    for (size_t i = 0; i + 5 <= numbers.size(); i += 5) {
      const int64_t inputs = numbers[i], outputs = numbers[i + 1];
      const int64_t taps = numbers[i + 2] * numbers[i + 2];
      TORCH_CHECK(inputs == (layers.empty() ? inputs : layers.back().outputs) && inputs > 0 &&
                      outputs > 0 && (taps == 1 || taps == 9) && numbers[i + 3] > 0,
                  "mod_block_: the layers do not fit each other");
      const float* weight = take(outputs * inputs * taps);
      layers.push_back(
          {inputs, outputs, taps, numbers[i + 3], numbers[i + 4] != 0, weight, take(outputs)});
    }
    TORCH_CHECK(numbers.size() % 5 == 0 && hidden > 0 && !layers.empty() && next == end &&
                    layers.front().inputs == layers.back().outputs &&
                    layers.front().inputs <= channels,
                "mod_block_: the weights do not fit ", channels, " channels");
  }
};

void mod_block_(at::Tensor& x, const at::Tensor& packed, int64_t hidden, at::IntArrayRef layers,
                bool last) {
  TORCH_CHECK(x.dim() == 4 && x.is_cpu() && packed.is_cpu() && packed.is_contiguous(),
              "mod_block_: it takes a map of shape (N, C, H, W) and packed weights, on a CPU");
  const bool contiguous = x.is_contiguous();
  if (!contiguous && !x.is_contiguous(at::MemoryFormat::ChannelsLast)) {
    // torch.compile may choose another layout.
    at::Tensor copy = x.contiguous();
    mod_block_(copy, packed, hidden, layers, last);
    x.copy_(copy);
    return;
  }
  const Weights weights(packed, x.size(1), hidden, layers);
  if (x.numel() == 0) return;
  const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3);
  Map map{x.mutable_data_ptr<float>(), x.size(0), channels, x.size(2), x.size(3), pixels, 1};
  if (!contiguous) {
    map.channel_stride = 1;
    map.pixel_stride = channels;
  }
  const Floats units = fully_connected(pool(map), weights.fc1, hidden, channels, true);
  const Floats logits = fully_connected(units, weights.fc2, channels, hidden, false);
  const auto process_samples = [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n)
      process_sample(map, n, &logits[n * map.channels], weights.layers, last);
  };
  // Nested loops do not run in parallel, even if the outer parallel_for starts no thread.
  if (map.samples > 1 && map.samples >= at::get_num_threads())
    at::parallel_for(0, map.samples, 1, process_samples);
  else
    process_samples(0, map.samples);
  x.unsafeGetTensorImpl()->bump_version();  // as every in-place operation does
}

}  // namespace

// The schema is in operator.py.
TORCH_LIBRARY_IMPL(mmcnnmod, CPU, library) { library.impl("mod_block_", mod_block_); }
