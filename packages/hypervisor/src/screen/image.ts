/** Screenshots as pixels: reads PNG and PPM as QEMU writes them, writes PNG. RGB, eight bits each, nothing else. */
import zlib from 'node:zlib';
import { LifeboatError } from '@lifeboat/foundation/errors';

export interface Image {
  readonly width: number;
  readonly height: number;
  /** Three bytes a pixel, rows from the top. */
  readonly rgb: Uint8Array;
}

/** The largest screen QEMU's VGA offers is far below. */
const DIMENSION_MAX = 8192;
const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');
const IHDR_BYTES = 13;

export function isPng(bytes: Uint8Array): boolean {
  return SIGNATURE.equals(bytes.subarray(0, SIGNATURE.length));
}

/** Errors: `hypervisor.no-screen`. */
export function readImage(bytes: Buffer): Image {
  return isPng(bytes) ? readPng(bytes) : readPpm(bytes);
}

export function writePng({ width, height, rgb }: Image): Buffer {
  const header = Buffer.alloc(IHDR_BYTES);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  // Eight bits per channel, RGB.
  header.set([8, 2], 8);
  const rowBytes = width * 3;
  const raw = Buffer.alloc((rowBytes + 1) * height);
  for (let row = 0; row < height; row += 1) {
    // The byte before each row is its filter; 0 is none.
    raw.set(rgb.subarray(row * rowBytes, (row + 1) * rowBytes), row * (rowBytes + 1) + 1);
  }
  const data = zlib.deflateSync(raw);
  return Buffer.concat([SIGNATURE, chunk('IHDR', header), chunk('IDAT', data), chunk('IEND', Buffer.alloc(0))]);
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(data.length, 0);
  frame.writeUInt32BE(zlib.crc32(body), 4);
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
}

/** `P6 width height 255`, one white space, then the pixels; comments run from # to the line's end. */
function readPpm(bytes: Buffer): Image {
  const header = /^P6(?:\s|#[^\n]*\n)+(\d{1,5})(?:\s|#[^\n]*\n)+(\d{1,5})(?:\s|#[^\n]*\n)+255\s/.exec(
    bytes.toString('latin1', 0, 256),
  );
  if (!header) throw unreadable('neither PNG nor PPM');
  const [width, height] = [Number(header[1]), Number(header[2])];
  assertDimensions(width, height);
  const rgb = bytes.subarray(header[0].length, header[0].length + width * height * 3);
  if (rgb.length !== width * height * 3) throw unreadable(`a PPM of ${width} x ${height} holds ${rgb.length} bytes`);
  return { width, height, rgb };
}

function readPng(bytes: Buffer): Image {
  let header: Buffer | undefined;
  const data: Buffer[] = [];
  for (let position = SIGNATURE.length; position + 12 <= bytes.length;) {
    const length = bytes.readUInt32BE(position);
    const type = bytes.toString('latin1', position + 4, position + 8);
    const body = bytes.subarray(position + 8, position + 8 + length);
    if (type === 'IHDR') header = body;
    else if (type === 'IDAT') data.push(body);
    position += 12 + length;
  }
  if (header?.length !== IHDR_BYTES) throw unreadable('a PNG without a header');
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  assertDimensions(width, height);
  const [depth, colour, , , interlace] = header.subarray(8);
  const channels = colour === 2 ? 3 : colour === 6 ? 4 : 0;
  if (depth !== 8 || channels === 0 || interlace !== 0) {
    throw unreadable(`a PNG of depth ${depth}, colour type ${colour}, interlace ${interlace}`);
  }
  const rowBytes = width * channels;
  let raw: Buffer;
  try {
    raw = zlib.inflateSync(Buffer.concat(data), { maxOutputLength: (rowBytes + 1) * height });
  } catch (cause) {
    throw unreadable('PNG data that does not inflate', cause);
  }
  if (raw.length !== (rowBytes + 1) * height) throw unreadable(`a PNG with ${raw.length} bytes of pixels`);
  const pixels = unfilter(raw, { rowBytes, height, channels });
  return { width, height, rgb: channels === 3 ? pixels : dropAlpha(pixels) };
}

/** Undoes PNG's row filters: each byte was stored as its difference from a prediction. */
function unfilter(
  raw: Buffer,
  { rowBytes, height, channels }: { rowBytes: number; height: number; channels: number },
): Uint8Array {
  const pixels = new Uint8Array(rowBytes * height);
  for (let row = 0; row < height; row += 1) {
    const filter = raw[row * (rowBytes + 1)] ?? 0;
    const source = row * (rowBytes + 1) + 1;
    const target = row * rowBytes;
    for (let index = 0; index < rowBytes; index += 1) {
      const left = index >= channels ? (pixels[target + index - channels] ?? 0) : 0;
      const above = row > 0 ? (pixels[target + index - rowBytes] ?? 0) : 0;
      const corner = row > 0 && index >= channels ? (pixels[target + index - rowBytes - channels] ?? 0) : 0;
      pixels[target + index] = (raw[source + index] ?? 0) + predict(filter, left, above, corner);
    }
  }
  return pixels;
}

function predict(filter: number, left: number, above: number, corner: number): number {
  switch (filter) {
    case 0:
      return 0;
    case 1:
      return left;
    case 2:
      return above;
    case 3:
      return (left + above) >> 1;
    case 4: {
      const [a, b, c] = [Math.abs(above - corner), Math.abs(left - corner), Math.abs(left + above - 2 * corner)];
      return a <= b && a <= c ? left : b <= c ? above : corner;
    }
    default:
      throw unreadable(`a PNG with row filter ${filter}`);
  }
}

function dropAlpha(pixels: Uint8Array): Uint8Array {
  const rgb = new Uint8Array((pixels.length / 4) * 3);
  for (let pixel = 0; pixel * 4 < pixels.length; pixel += 1) {
    rgb.set(pixels.subarray(pixel * 4, pixel * 4 + 3), pixel * 3);
  }
  return rgb;
}

function assertDimensions(width: number, height: number): void {
  if (width < 1 || height < 1 || width > DIMENSION_MAX || height > DIMENSION_MAX) {
    throw unreadable(`an image of ${width} x ${height}`);
  }
}

function unreadable(what: string, cause?: unknown): LifeboatError {
  return new LifeboatError('hypervisor.no-screen', `the screenshot is ${what}`, { cause });
}
