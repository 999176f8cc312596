"use strict";
// A JPEG at a smaller scale, as Python has it from libjpeg, which leaves the fine parts undecoded. Browsers decode all
// of it; so the means of blocks are taken here, of brightness and colours apart, as the file holds them.

const LUMA = [0.299, 0.587, 0.114, 0];
const CHROMA = [[-0.168735892, -0.331264108, 0.5, 128], [0.5, -0.418687589, -0.081312411, 128]];

/** The scale, 1/1 to 1/8, at which Python decodes a JPEG: as small as loses nothing for the network. */
function jpegScale({ width, height }, { height: rows, width: columns, crop }) {
  const least = Math.round(Math.max(rows, columns) / crop);
  return [8, 4, 2].find((factor) => Math.ceil(Math.min(width, height) / factor) >= least) || 1;
}

/** Upright RGBA pixels of a JPEG, at a scale of one to `factor`. */
function scaledJpeg(pixels, factor, file) {
  if (factor === 1) return pixels;
  const { across, down } = colourSampling(file, pixels);
  const luma = wholeNumbers(means(pixels, channel(pixels, LUMA), factor, factor));
  const [blue, red] = CHROMA.map((weights) => {
    let plane = means(pixels, channel(pixels, weights), across, down);
    if (across === 2) plane = withoutSmoothing(plane, true);
    if (down === 2) plane = withoutSmoothing(plane, false);
    // libjpeg keeps the finer colours where it can, and smooths them out again where they are coarse in one direction.
    if (across === down) return wholeNumbers(means(plane, (i) => plane.data[i], factor / across, factor / down));
    return enlarged(wholeNumbers(means(plane, (i) => plane.data[i], factor, factor)), across === 2, factor < 8);
  });
  const { width, height } = luma;
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const b = blue.data[y * blue.width + x] - 128;
      const r = red.data[y * red.width + x] - 128;
      data[4 * i] = luma.data[i] + Math.round(1.402 * r);
      data[4 * i + 1] = luma.data[i] + Math.round(-0.344136286 * b - 0.714136286 * r);
      data[4 * i + 2] = luma.data[i] + Math.round(1.772 * b);
    }
  }
  return { width, height, data };
}

/** How many pixels across and down, one or two, share a colour in a JPEG; of the upright picture. */
function colourSampling(file, { width }) {
  for (let at = 2; at + 19 < file.byteLength && file.getUint8(at) === 0xff; at += 2 + file.getUint16(at + 2)) {
    const marker = file.getUint8(at + 1);
    if (marker < 0xc0 || marker > 0xcf || [0xc4, 0xc8, 0xcc].includes(marker)) continue;
    if (file.getUint8(at + 9) !== 3) break; // grey, or made for printing
    const [luma, ...colours] = [0, 1, 2].map((n) => file.getUint8(at + 11 + 3 * n));
    const [across, down] = [(luma >> 4) / (colours[0] >> 4), (luma & 15) / (colours[0] & 15)];
    if (colours[0] !== colours[1] || ![1, 2].includes(across) || ![1, 2].includes(down)) break;
    return file.getUint16(at + 7) === width ? { across, down } : { across: down, down: across };
  }
  return { across: 1, down: 1 };
}

/** A weighted sum of the colours of pixel `i`. */
function channel({ data }, [red, green, blue, offset]) {
  return (i) => red * data[4 * i] + green * data[4 * i + 1] + blue * data[4 * i + 2] + offset;
}

/** Means of blocks; beyond the edge its values are repeated. */
function means({ width, height }, value, columns, rows) {
  const plane = { width: Math.ceil(width / columns), height: Math.ceil(height / rows) };
  plane.data = new Float32Array(plane.width * plane.height);
  for (let y = 0, to = 0; y < plane.height; y++) {
    for (let x = 0; x < plane.width; x++, to++) {
      let sum = 0;
      for (let dy = 0; dy < rows; dy++) {
        const row = Math.min(height - 1, y * rows + dy) * width;
        for (let dx = 0; dx < columns; dx++) sum += value(row + Math.min(width - 1, x * columns + dx));
      }
      plane.data[to] = sum / (columns * rows);
    }
  }
  return plane;
}

function wholeNumbers({ width, height, data }) {
  return { width, height, data: data.map(Math.round) };
}

/**
 * Colours as the file holds them. A decoder makes two pixels of each, three quarters itself and a quarter its neighbour
 * (jdsample.c), so that their mean is three quarters itself and an eighth each neighbour; that is undone step by step.
 */
function withoutSmoothing({ width, height, data }, across) {
  const [step, n] = across ? [1, width] : [width, height];
  let values = data;
  for (let pass = 0; pass < 3; pass++) {
    const next = new Float32Array(data.length);
    for (let i = 0; i < data.length; i++) {
      const at = across ? i % width : Math.floor(i / width);
      const sides = values[at > 0 ? i - step : i] + values[at < n - 1 ? i + step : i];
      next[i] = data[i] + 0.25 * values[i] - 0.125 * sides;
    }
    values = next;
  }
  return { width, height, data: values };
}

/** Twice as many values in one direction: as a decoder makes them, or the same twice. */
function enlarged(plane, across, smooth) {
  const [width, height] = [plane.width * (across ? 2 : 1), plane.height * (across ? 1 : 2)];
  const data = new Float32Array(width * height);
  const [step, n] = across ? [1, plane.width] : [plane.width, plane.height];
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to++) {
      const along = across ? x : y;
      const from = across ? y * plane.width + (x >> 1) : (y >> 1) * plane.width + x;
      const beyond = along & 1 ? along >> 1 === n - 1 : along >> 1 === 0;
      const side = plane.data[beyond ? from : from + (along & 1 ? step : -step)];
      data[to] = smooth ? (3 * plane.data[from] + side + 1 + (along & 1)) >> 2 : plane.data[from];
    }
  }
  return { width, height, data };
}
