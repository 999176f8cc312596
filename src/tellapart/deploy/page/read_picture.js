"use strict";
// From a file to upright RGB pixels, with the browser's own decoders. Colour profiles are left aside, as in training.

const MOST_PIXELS = 60_000_000;

/** Read a picture for a network with this preprocessing. Throws an Error whose message is for people. */
async function readPicture(blob, preprocessing) {
  const { background } = preprocessing;
  let pixels;
  try {
    pixels = (await unmixedPixels(blob)) || (await canvasPixels(blob));
    if (await isJpeg(blob)) {
      pixels = scaledJpeg(pixels, jpegScale(pixels, preprocessing), new DataView(await blob.arrayBuffer()));
    }
  } catch (error) {
    throw error instanceof TooLarge ? error : new Error("This file is no picture that your browser can read.");
  }
  return overBackground(pixels, background);
}

class TooLarge extends Error {}

function checkSize(width, height) {
  if (width * height > MOST_PIXELS) {
    throw new TooLarge(`This picture has ${width} × ${height} pixels, more than can be read here.`);
  }
}

/** RGBA of a PNG as it stands in the file: a canvas multiplies colours by their opacity, and rounds. */
async function unmixedPixels(blob) {
  const start = new DataView(await blob.slice(0, 4).arrayBuffer());
  if (!window.ImageDecoder || start.byteLength < 4 || start.getUint32(0) !== 0x89504e47) return null;
  const file = await blob.arrayBuffer();
  const decoder = new ImageDecoder({
    data: file, type: "image/png", colorSpaceConversion: "none", premultiplyAlpha: "none",
  });
  try {
    const { image } = await decoder.decode();
    checkSize(image.codedWidth, image.codedHeight);
    const { width, height } = image.visibleRect;
    const data = new Uint8Array(image.allocationSize({ format: "RGBA" }));
    await image.copyTo(data, { format: "RGBA" });
    image.close();
    return upright({ width, height, data }, orientationOfPng(new DataView(file)));
  } catch (error) {
    if (error instanceof TooLarge) throw error;
    return null; // the browser cannot copy it in this way
  } finally {
    decoder.close();
  }
}

/** EXIF orientation of a PNG, 1 to 8; 1 where there is none. Browsers leave it aside in this kind of file. */
function orientationOfPng(file) {
  const EXIF = 0x65584966;
  const TAG = 0x0112;
  const SIZES = { 3: 2, 4: 4 }; // bytes of EXIF's kinds of whole numbers; a text is no orientation
  let orientation = 1;
  try {
    for (let at = 8; at + 12 <= file.byteLength; at += 12 + file.getUint32(at)) {
      if (file.getUint32(at + 4) !== EXIF) continue;
      const tiff = at + 8;
      const little = file.getUint16(tiff) === 0x4949;
      const first = tiff + file.getUint32(tiff + 4, little);
      for (let entry = 0; entry < file.getUint16(first, little); entry++) {
        const tag = first + 2 + 12 * entry;
        const size = SIZES[file.getUint16(tag + 2, little)];
        if (file.getUint16(tag, little) !== TAG || !size || file.getUint32(tag + 4, little) !== 1) continue;
        const value = size === 2 ? file.getUint16(tag + 8, little) : file.getUint32(tag + 8, little);
        orientation = value >= 1 && value <= 8 ? value : 1; // the last one counts, as in Python
      }
      return orientation;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // what is cut off says nothing
  }
  return orientation;
}

/** Undo how the camera was held. */
function upright({ width, height, data }, orientation) {
  if (orientation === 1) return { width, height, data };
  const turned = orientation >= 5;
  const result = { width: turned ? height : width, height: turned ? width : height, data: new Uint8Array(data.length) };
  for (let y = 0; y < result.height; y++) {
    for (let x = 0; x < result.width; x++) {
      const column = [2, 3, 6, 7].includes(orientation) ? result.width - 1 - x : x;
      const row = [3, 4, 7, 8].includes(orientation) ? result.height - 1 - y : y;
      const from = (turned ? column * width + row : row * width + column) * 4;
      result.data.set(data.subarray(from, from + 4), (y * result.width + x) * 4);
    }
  }
  return result;
}

async function canvasPixels(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  try {
    const { width, height } = bitmap;
    checkSize(width, height);
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return { width, height, data: context.getImageData(0, 0, width, height).data };
  } finally {
    bitmap.close();
  }
}

async function isJpeg(blob) {
  const start = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  return start[0] === 0xff && start[1] === 0xd8;
}

/** RGB of RGBA, over a colour; rounded as Pillow rounds. */
function overBackground({ width, height, data }, background) {
  const result = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    const opacity = data[from + 3];
    for (let channel = 0; channel < 3; channel++, to++) {
      const mixed = data[from + channel] * opacity + background[channel] * (255 - opacity) + 128;
      result[to] = opacity === 255 ? data[from + channel] : ((mixed >> 8) + mixed) >> 8;
    }
  }
  return { width, height, data: result };
}
