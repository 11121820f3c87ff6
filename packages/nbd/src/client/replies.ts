import type { Parser } from '../frame-reader.ts';
import { CHUNK, COMMAND, isErrorChunk } from '../protocol.ts';
import * as codec from '../reply-codec.ts';
import { protocolError } from '../wire.ts';
import type { PendingRequest } from './pending-request.ts';

/** Requests that wait for a reply, as the reply parser sees them. */
export interface PendingRequests {
  readonly structured: boolean;
  /** Ids of the selected meta contexts. */
  readonly contextIds: ReadonlySet<number>;
  find(cookie: bigint): PendingRequest | undefined;
  /** The reply is complete: forget the request. */
  remove(cookie: bigint): void;
}

// nbdkit answers with at most 2^20 runs, QEMU with 2^17.
const MAX_STATUS_ENTRIES = 1 << 20;
const STATUS_BATCH_ENTRIES = 4096;

/** Reads replies for ever and hands their content to the requests they belong to. Errors: `nbd.protocol-error`. */
export function* readReplies(pending: PendingRequests): Parser<void> {
  for (;;) {
    const prefix = codec.decodeReplyPrefix(yield { take: codec.REPLY_PREFIX_BYTES });
    const request = pending.find(prefix.cookie);
    if (!request) throw protocolError(`a reply to request ${prefix.cookie}, which is not open`);
    if (prefix.kind === 'simple') {
      yield* simpleReply(request, prefix.errno, pending.structured);
    } else {
      if (!pending.structured) throw protocolError('a structured reply that was not negotiated');
      yield* chunk(request, prefix, pending.contextIds);
      if (!prefix.done) continue;
    }
    request.complete();
    pending.remove(prefix.cookie);
  }
}

function* simpleReply(request: PendingRequest, errno: number, structured: boolean): Parser<void> {
  if (errno !== 0) {
    request.addError({ errno, message: '' });
    return;
  }
  if (request.ask.command !== COMMAND.read) return;
  // Data without a chunk header could not be told from the next reply by a client that expects one.
  if (structured) throw protocolError('a simple reply to a read, although structured replies were negotiated');
  yield* data(request, { offsetBytes: request.ask.offsetBytes, lengthBytes: request.lengthBytes });
}

function* chunk(
  request: PendingRequest,
  prefix: { type: number; done: boolean },
  contextIds: ReadonlySet<number>,
): Parser<void> {
  const lengthBytes = codec.decodeChunkLength(yield { take: codec.CHUNK_LENGTH_BYTES });
  const { type } = prefix;
  if (isErrorChunk(type)) {
    expectLength('error', lengthBytes, lengthBytes >= 6 && lengthBytes <= codec.MAX_ERROR_PAYLOAD_BYTES);
    request.addError(codec.decodeErrorPayload(type, yield { take: lengthBytes }));
    return;
  }
  switch (type) {
    case CHUNK.none:
      expectLength('empty', lengthBytes, lengthBytes === 0 && prefix.done);
      return;
    case CHUNK.offsetData: {
      const dataBytes = lengthBytes - codec.CHUNK_OFFSET_BYTES;
      // Before anything is read: a length from the wire never decides how much is taken in.
      expectLength('data', lengthBytes, dataBytes > 0 && dataBytes <= request.lengthBytes);
      const offsetBytes = codec.decodeChunkOffset(yield { take: codec.CHUNK_OFFSET_BYTES });
      yield* data(request, { offsetBytes, lengthBytes: dataBytes });
      return;
    }
    case CHUNK.offsetHole:
      expectLength('hole', lengthBytes, lengthBytes === codec.HOLE_BYTES);
      request.hole(codec.decodeHole(yield { take: codec.HOLE_BYTES }));
      return;
    case CHUNK.blockStatus:
      yield* status(request, lengthBytes, contextIds);
      return;
    default:
      throw protocolError(`a reply chunk of the unknown type ${type}`);
  }
}

function* data(request: PendingRequest, run: { offsetBytes: number; lengthBytes: number }): Parser<void> {
  const target = request.beginData(run);
  yield target ? { fill: target } : { skip: run.lengthBytes };
  request.endData();
}

function* status(request: PendingRequest, lengthBytes: number, contextIds: ReadonlySet<number>): Parser<void> {
  const entryBytes = lengthBytes - codec.STATUS_CONTEXT_BYTES;
  const whole = entryBytes > 0 && entryBytes % codec.STATUS_ENTRY_BYTES === 0;
  expectLength('block status', lengthBytes, whole && entryBytes / codec.STATUS_ENTRY_BYTES <= MAX_STATUS_ENTRIES);
  const contextId = codec.decodeStatusContext(yield { take: codec.STATUS_CONTEXT_BYTES });
  if (!request.beginStatus(contextId, contextIds)) {
    yield { skip: entryBytes };
    return;
  }
  for (let left = entryBytes; left > 0;) {
    const batch = Math.min(left, STATUS_BATCH_ENTRIES * codec.STATUS_ENTRY_BYTES);
    request.addStatus(codec.decodeStatusEntries(yield { take: batch }));
    left -= batch;
  }
}

function expectLength(kind: string, lengthBytes: number, right: boolean): void {
  if (!right) throw protocolError(`${kind} chunk with a length of ${lengthBytes} bytes`);
}
