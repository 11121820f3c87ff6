/** The client's parsers on recorded conversations: cut anywhere, with any bit turned over, cut off anywhere. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameReader, type Parser } from '../frame-reader.ts';
import { encodeGreeting } from '../handshake-codec.ts';
import * as options from '../option-codec.ts';
import { COMMAND, OPTION, OPTION_REPLY } from '../protocol.ts';
import * as reply from '../reply-codec.ts';
import { flipBit, thrownBy } from '../testing/damage.ts';
import { patternBytes } from '../testing/memory-device.ts';
import { negotiate, type Negotiated } from './negotiation.ts';
import { PendingRequest } from './pending-request.ts';
import { readReplies } from './replies.ts';

const BITMAP = 'qemu:dirty-bitmap:b0';
const ack = (option: number): Buffer => options.encodeOptionReply(option, OPTION_REPLY.ack, new Uint8Array(0));
const info = (about: Parameters<typeof options.encodeInfo>[0]): Buffer =>
  options.encodeOptionReply(OPTION.go, OPTION_REPLY.info, options.encodeInfo(about));
const context = (id: number, name: string): Buffer =>
  options.encodeOptionReply(OPTION.setMetaContext, OPTION_REPLY.metaContext, options.encodeMetaContext({ id, name }));

const handshake = Buffer.concat([
  encodeGreeting(3),
  ack(OPTION.structuredReply),
  context(7, 'base:allocation'),
  context(9, BITMAP),
  ack(OPTION.setMetaContext),
  info({ kind: 'export', sizeBytes: 1 << 20, flags: 3 }),
  info({ kind: 'block-size', minimum: 512, preferred: 4096, maximum: 1 << 20 }),
  ack(OPTION.go),
]);

const pattern = patternBytes(3000);
const replies = Buffer.concat([
  reply.encodeDataChunkStart({ cookie: 1n, done: false }, { offsetBytes: 1500, lengthBytes: 500 }),
  pattern.subarray(500, 1000),
  reply.encodeStatusChunk({ cookie: 2n, done: true }, 7, [
    { lengthBytes: 100, flags: 0 },
    { lengthBytes: 5000, flags: 3 },
  ]),
  reply.encodeHoleChunk({ cookie: 1n, done: false }, { offsetBytes: 2000, lengthBytes: 2000 }),
  reply.encodeErrorChunk(3n, { errno: 5, message: 'bad sector' }),
  reply.encodeDataChunkStart({ cookie: 1n, done: true }, { offsetBytes: 1000, lengthBytes: 500 }),
  pattern.subarray(0, 500),
  reply.encodeSimpleReply({ errno: 0, cookie: 4n }),
]);

interface Conversation {
  readonly parser: Parser<void>;
  readonly target: Uint8Array;
  readonly requests: Map<bigint, PendingRequest>;
}

function repliesConversation(): Conversation {
  const target = new Uint8Array(3000).fill(0xee);
  const requests = new Map<bigint, PendingRequest>([
    [1n, new PendingRequest({ command: COMMAND.read, offsetBytes: 1000, target }, 'read')],
    [
      2n,
      new PendingRequest({ command: COMMAND.blockStatus, offsetBytes: 0, lengthBytes: 4096, contextId: 7 }, 'status'),
    ],
    [3n, new PendingRequest({ command: COMMAND.read, offsetBytes: 0, target: new Uint8Array(10) }, 'bad read')],
    [4n, new PendingRequest({ command: COMMAND.flush, offsetBytes: 0, lengthBytes: 0 }, 'flush')],
  ]);
  for (const request of requests.values()) request.done.catch(() => {});
  const parser = readReplies({
    structured: true,
    contextIds: new Set([7, 9]),
    find: (cookie) => requests.get(cookie),
    remove: (cookie) => requests.delete(cookie),
  });
  return { parser, target, requests };
}

function feed(reader: FrameReader, bytes: Uint8Array, cuts: readonly number[]): void {
  const edges = [0, ...[...cuts].sort((a, b) => a - b), bytes.length];
  for (let i = 1; i < edges.length; i++) reader.push(bytes.subarray(edges[i - 1], edges[i]));
}

function negotiation(bytes: Uint8Array, cuts: readonly number[]): Negotiated | undefined {
  let negotiated: Negotiated | undefined;
  const wanted = { exportName: 'disk', metaContexts: [BITMAP] };
  const reader = new FrameReader(
    (function* () {
      negotiated = yield* negotiate(() => {}, wanted);
    })(),
  );
  feed(reader, bytes, cuts);
  return negotiated;
}

describe('handshake of the client', () => {
  it('comes to the same end wherever the stream is cut', () => {
    const whole = negotiation(handshake, []);
    expect(whole).toEqual({
      sizeBytes: 1 << 20,
      flags: 3,
      structured: true,
      blockSize: { minimum: 512, preferred: 4096, maximum: 1 << 20 },
      contexts: new Map([
        ['base:allocation', 7],
        [BITMAP, 9],
      ]),
    });
    for (let cut = 0; cut <= handshake.length; cut++) expect(negotiation(handshake, [cut])).toEqual(whole);
  });

  it('is not complete one byte early, and fails only as a LifeboatError with any bit turned over', () => {
    for (let end = 0; end < handshake.length; end++)
      expect(negotiation(handshake.subarray(0, end), [])).toBeUndefined();
    for (let bit = 0; bit < handshake.length * 8; bit++) {
      const error = thrownBy(() => negotiation(flipBit(handshake, bit), []));
      expect(error === undefined || error instanceof LifeboatError, `bit ${bit}: ${String(error)}`).toBe(true);
    }
  });
});

describe('replies to the client', () => {
  it('give the same content wherever the stream is cut', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: replies.length }), { maxLength: 12 }), (cuts) => {
        const { parser, target, requests } = repliesConversation();
        const status = requests.get(2n);
        feed(new FrameReader(parser), replies, cuts);
        expect(requests.size).toBe(0);
        expect(Buffer.compare(target.subarray(0, 1000), pattern.subarray(0, 1000))).toBe(0);
        expect(target.subarray(1000).every((byte) => byte === 0)).toBe(true);
        expect(status?.statusEntries).toEqual([
          { lengthBytes: 100, flags: 0 },
          { lengthBytes: 3996, flags: 3 },
        ]);
      }),
      { numRuns: 300 },
    );
  });

  it('settle each request by its own outcome', async () => {
    const { parser, requests } = repliesConversation();
    const [read, status, failed, flush] = [...requests.values()].map((request) => request.done);
    new FrameReader(parser).push(replies);
    await Promise.all([read, status, flush]);
    await expect(failed).rejects.toMatchObject({
      code: 'device.read-failed',
      message: expect.stringContaining('bad sector'),
    });
  });

  it('with any bit turned over: a LifeboatError, another request untouched, or different data, but no crash', () => {
    for (let bit = 0; bit < replies.length * 8; bit++) {
      // Inside the two payloads a flipped bit is just other data.
      const { parser } = repliesConversation();
      const error = thrownBy(() => new FrameReader(parser).push(flipBit(replies, bit)));
      expect(error === undefined || error instanceof LifeboatError, `bit ${bit}: ${String(error)}`).toBe(true);
    }
  });

  it('random bytes are refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 200 }), (bytes) => {
        const { parser } = repliesConversation();
        expect(() => new FrameReader(parser).push(bytes)).toThrow(LifeboatError);
      }),
    );
  });
});
