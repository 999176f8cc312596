"use strict";
// The preprocessing of core/preprocess.py, and Pillow's resampling with its whole-number arithmetic, step for step: the
// network must see the same bytes here as where it was trained. Pictures are {width, height, data}, data RGB.

const BITS = 22; // of the weights' fractions, as in Pillow

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));
const FILTERS = {
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => {
    const a = -0.5;
    const d = Math.abs(x);
    if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    if (d < 2) return (((d - 5) * d + 8) * d - 4) * a;
    return 0;
  }],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

/** For each pixel of a result of `n_out`, made from `start` to `end` of a line of `n_in`: first pixel and weights. */
function resamplingWeights(n_in, start, end, n_out, [radius, filter]) {
  const scale = Math.fround(end - start) / n_out;
  const stretch = Math.max(1, scale);
  const support = radius * stretch;
  const lines = [];
  for (let i = 0; i < n_out; i++) {
    const center = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(n_in, Math.trunc(center + support + 0.5));
    const weights = [];
    let sum = 0;
    for (let j = first; j < last; j++) {
      const weight = filter((j - center + 0.5) * (1 / stretch));
      weights.push(weight);
      sum += weight;
    }
    lines.push({
      first,
      weights: Int32Array.from(weights, (weight) => {
        const share = (sum === 0 ? weight : weight / sum) * (1 << BITS);
        return Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
      }),
    });
  }
  return lines;
}

const toByte = (sum) => Math.min(255, Math.max(0, sum >> BITS));

/** One pass of resampling, over rows or columns. */
function resampled(picture, lines, vertical) {
  const width = vertical ? picture.width : lines.length;
  const height = vertical ? lines.length : picture.height;
  const data = new Uint8Array(width * height * 3);
  const step = vertical ? picture.width * 3 : 3;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const { first, weights } = lines[vertical ? y : x];
      const from = (vertical ? first * picture.width + x : y * picture.width + first) * 3;
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (BITS - 1);
        for (let j = 0, at = from + channel; j < weights.length; j++, at += step) sum += picture.data[at] * weights[j];
        data[(y * width + x) * 3 + channel] = toByte(sum);
      }
    }
  }
  return { width, height, data };
}

/** The nearest pixels; positions are summed up as Pillow sums them. */
function nearestPixels(picture, width, height, [left, top, right, bottom]) {
  const positions = (n, start, end, n_in) => {
    const step = Math.fround(end - start) / n;
    const result = [];
    for (let i = 0, at = start + step * 0.5; i < n; i++, at += step) result.push(Math.min(n_in - 1, Math.trunc(at)));
    return result;
  };
  const columns = positions(width, left, right, picture.width);
  const data = new Uint8Array(width * height * 3);
  positions(height, top, bottom, picture.height).forEach((row, y) => columns.forEach((column, x) => {
    const from = (row * picture.width + column) * 3;
    data.set(picture.data.subarray(from, from + 3), (y * width + x) * 3);
  }));
  return { width, height, data };
}

/** Scale a box [left, top, right, bottom] of a picture (all of it by default). */
function resize(picture, width, height, interpolation, box = [0, 0, picture.width, picture.height]) {
  const [left, top, right, bottom] = box.map(Math.fround);
  if (interpolation === "nearest") return nearestPixels(picture, width, height, [left, top, right, bottom]);
  const filter = FILTERS[interpolation];
  const across = width !== picture.width || left !== 0 || right !== picture.width;
  const down = height !== picture.height || top !== 0 || bottom !== picture.height;
  const passes = [];
  if (across) passes.push([resamplingWeights(picture.width, left, right, width, filter), false]);
  if (down) passes.push([resamplingWeights(picture.height, top, bottom, height, filter), true]);
  // Bytes are rounded between the passes, so their order matters. Pillow 13 begins with rows where many of them go.
  if (picture.height - height > 2 * Math.max(0, picture.width - width)) passes.reverse();
  return passes.reduce((result, [lines, vertical]) => resampled(result, lines, vertical), picture);
}

/** Half to even, as Python rounds. */
function rounded(value) {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

/** Scale, cut or pad a picture to the network's input. */
function preprocess(picture, how) {
  const { width, height } = picture;
  if (how.fit === "squash") return resize(picture, how.width, how.height, how.interpolation);
  if (how.fit === "pad") {
    const scale = Math.min(how.height / height, how.width / width);
    const side = (n, most) => Math.min(most, Math.max(1, rounded(n * scale)));
    const inner = resize(picture, side(width, how.width), side(height, how.height), how.interpolation);
    const data = new Uint8Array(how.width * how.height * 3);
    for (let i = 0; i < data.length; i++) data[i] = how.background[i % 3];
    const top = Math.floor((how.height - inner.height) / 2);
    const left = Math.floor((how.width - inner.width) / 2);
    for (let y = 0; y < inner.height; y++) {
      const row = inner.data.subarray(y * inner.width * 3, (y + 1) * inner.width * 3);
      data.set(row, ((top + y) * how.width + left) * 3);
    }
    return { width: how.width, height: how.height, data };
  }
  const scale = Math.max(how.height / height, how.width / width) / how.crop;
  const cutHeight = how.height / scale;
  const cutWidth = how.width / scale;
  const top = (height - cutHeight) / 2;
  const left = (width - cutWidth) / 2;
  const box = [Math.max(0, left), Math.max(0, top), Math.min(width, left + cutWidth), Math.min(height, top + cutHeight)];
  return resize(picture, how.width, how.height, how.interpolation, box);
}

const CORNERS = [[0.5, 0.5], [0, 0], [1, 1], [0, 1], [1, 0]];

/** The n changed copies of test-time augmentation, as data/augmentation/tta.py makes them. */
function changedCopies(picture, n, flip, interpolation) {
  const copies = flip && n ? [mirrored(picture)] : [];
  for (let round = 1; copies.length < n; round++) {
    CORNERS.forEach(([down, across], number) => {
      const share = 0.9 ** round;
      const top = down * (1 - share) * picture.height;
      const left = across * (1 - share) * picture.width;
      const right = Math.min(left + share * picture.width, picture.width);
      const bottom = Math.min(top + share * picture.height, picture.height);
      const crop = resize(picture, picture.width, picture.height, interpolation, [left, top, right, bottom]);
      copies.push(flip && (round + number) % 2 === 0 ? mirrored(crop) : crop);
    });
  }
  return copies.slice(0, n);
}

function mirrored(picture) {
  const { width, height } = picture;
  const data = new Uint8Array(picture.data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (y * width + width - 1 - x) * 3;
      data.set(picture.data.subarray(from, from + 3), (y * width + x) * 3);
    }
  }
  return { width, height, data };
}
