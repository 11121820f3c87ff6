import { hasCode } from '@lifeboat/foundation/errors';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodeMessage,
  encodeMessage,
  FrameSplitter,
  HEADER_BYTES,
  MESSAGE_MAX_BYTES,
  type Message,
} from './message.ts';

const word = fc.nat({ max: 0xffff_ffff });
const message: fc.Arbitrary<Message> = fc.record({
  header: fc.record({ program: word, version: word, procedure: word, type: word, serial: word, status: word }),
  body: fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
});

function announce(lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(lengthBytes);
  return bytes;
}

describe('messages', () => {
  test('read back what was written', () => {
    fc.assert(
      fc.property(message, (value) => {
        expect(decodeMessage(encodeMessage(value))).toEqual(value);
      }),
    );
  });

  test('however the stream is cut, the same messages come out', () => {
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 5 }),
        fc.array(fc.nat({ max: 90 }), { maxLength: 40 }),
        (all, cuts) => {
          const stream = Buffer.concat(all.map(encodeMessage));
          const splitter = new FrameSplitter();
          const frames: Buffer[] = [];
          let position = 0;
          for (const cut of cuts) {
            frames.push(...splitter.push(stream.subarray(position, position + cut)));
            position = Math.min(position + cut, stream.length);
          }
          frames.push(...splitter.push(stream.subarray(position)));
          expect(frames.map(decodeMessage)).toEqual(all);
        },
      ),
    );
  });

  test('every single split of two messages, and one byte at a time', () => {
    const header = { program: 1, version: 1, procedure: 2, type: 1, serial: 7, status: 0 };
    const all = [
      { header, body: Buffer.from('a first body') },
      { header, body: Buffer.alloc(0) },
    ];
    const stream = Buffer.concat(all.map(encodeMessage));
    for (let cut = 0; cut <= stream.length; cut += 1) {
      const splitter = new FrameSplitter();
      const frames = [...splitter.push(stream.subarray(0, cut)), ...splitter.push(stream.subarray(cut))];
      expect(frames.map(decodeMessage)).toEqual(all);
    }
    const splitter = new FrameSplitter();
    const frames = Array.from(stream, (byte) => splitter.push(Buffer.of(byte))).flat();
    expect(frames.map(decodeMessage)).toEqual(all);
  });

  test.each([0, HEADER_BYTES - 1, MESSAGE_MAX_BYTES + 1, 0xffff_ffff])(
    'a length of %i is refused at once',
    (length) => {
      expect(() => new FrameSplitter().push(announce(length))).toThrow(/announces/);
    },
  );

  test('the limit counts for messages of ours, too', () => {
    const header = { program: 1, version: 1, procedure: 2, type: 0, serial: 1, status: 0 };
    const body = Buffer.alloc(MESSAGE_MAX_BYTES - HEADER_BYTES + 1);
    expect(() => encodeMessage({ header, body })).toThrow(/exceeds the limit/);
  });

  test('a frame that is not as long as it says is refused', () => {
    const frame = encodeMessage({
      header: { program: 1, version: 1, procedure: 2, type: 0, serial: 1, status: 0 },
      body: Buffer.alloc(8),
    });
    for (let length = 0; length < frame.length; length += 1) {
      expect(() => decodeMessage(frame.subarray(0, length))).toThrow(
        expect.toSatisfy((error: unknown) => hasCode(error, 'libvirt.protocol-error')),
      );
    }
  });
});
