/**
 * The client's side of the handshake, as a parser: it is given bytes by a FrameReader and sends through a callback.
 *
 * 1. greeting; insist on fixed newstyle
 * 2. STRUCTURED_REPLY; without it there are no meta contexts
 * 3. SET_META_CONTEXT with all that is wanted, and base:allocation, which is taken where it is offered
 * 4. GO with block size information; a server that does not know GO gets EXPORT_NAME
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { Parser } from '../frame-reader.ts';
import * as handshake from '../handshake-codec.ts';
import * as options from '../option-codec.ts';
import {
  ALLOCATION_CONTEXT,
  DEFAULT_MAX_BLOCK_BYTES,
  EXPORT_FLAG,
  HANDSHAKE_FLAG,
  INFO,
  isErrorReply,
  OPTION,
  OPTION_REPLY,
} from '../protocol.ts';
import { protocolError, WireReader } from '../wire.ts';

/** What both sides agreed on. */
export interface Negotiated {
  readonly sizeBytes: number;
  /** EXPORT_FLAG. */
  readonly flags: number;
  readonly structured: boolean;
  readonly blockSize: BlockSize;
  /** Meta contexts by name, with the id that replies carry. */
  readonly contexts: ReadonlyMap<string, number>;
}

export interface BlockSize {
  /** Requests begin and end at multiples of this; a power of two. */
  readonly minimum: number;
  readonly preferred: number;
  /** Largest read or write. */
  readonly maximum: number;
}

type Send = (bytes: Uint8Array) => void;

// An export list or a list of contexts may be long; one without an end would fill the memory.
const MAX_REPLIES_PER_OPTION = 16_384;
const MAX_OPTION_REPLY_BYTES = 64 * 1024;
const EMPTY = new Uint8Array(0);

/** Errors: `nbd.export-unknown`, `nbd.export-refused`, `nbd.context-missing`, `nbd.unsupported`, `nbd.protocol-error`. */
export function* negotiate(
  send: Send,
  wanted: { exportName: string; metaContexts: readonly string[] },
): Parser<Negotiated> {
  const { noZeroes } = yield* greet(send);
  const structured = (yield* option(send, OPTION.structuredReply, EMPTY)).error === undefined;
  const contexts = structured ? yield* selectContexts(send, wanted) : new Map<string, number>();
  const missing = wanted.metaContexts.filter((name) => !contexts.has(name));
  if (missing.length > 0) {
    const offered = structured ? yield* listContexts(send, wanted.exportName) : [];
    throw new LifeboatError(
      'nbd.context-missing',
      `export '${wanted.exportName}' offers no ${missing.join(', ')}; it offers ${offered.join(', ') || 'no block status at all'}`,
      { context: { exportName: wanted.exportName, missing: missing.join(' ') } },
    );
  }
  const request = options.encodeGo({ exportName: wanted.exportName, infos: [INFO.blockSize] });
  const go = yield* option(send, OPTION.go, request);
  if (go.error?.type === OPTION_REPLY.unsupported) {
    send(options.encodeOption(OPTION.exportName, Buffer.from(wanted.exportName, 'utf8')));
    const reply = handshake.decodeExportNameReply(yield { take: handshake.exportNameReplyBytes(!noZeroes) }, !noZeroes);
    return { ...checkExport(reply), structured, contexts, blockSize: blockSizeFrom([], reply.sizeBytes) };
  }
  if (go.error) throw exportError(wanted.exportName, go.error);
  const infos = go.replies
    .filter((reply) => reply.type === OPTION_REPLY.info)
    .map((reply) => options.decodeInfo(reply.data));
  const exported = infos.find((info) => info.kind === 'export');
  if (!exported) throw protocolError(`the server opened export '${wanted.exportName}' without saying its size`);
  return { ...checkExport(exported), structured, contexts, blockSize: blockSizeFrom(infos, exported.sizeBytes) };
}

/** Asks what the server has, and takes leave. Errors: `nbd.export-refused` where the server does not tell. */
export function* list(send: Send): Parser<options.ListedExport[]> {
  yield* greet(send);
  const outcome = yield* option(send, OPTION.list, EMPTY);
  if (outcome.error) {
    throw new LifeboatError('nbd.export-refused', `the server does not list its exports: ${describe(outcome.error)}`);
  }
  send(options.encodeOption(OPTION.abort, EMPTY));
  return outcome.replies
    .filter((reply) => reply.type === OPTION_REPLY.server)
    .map((reply) => options.decodeListedExport(reply.data));
}

function* greet(send: Send): Parser<{ noZeroes: boolean }> {
  const { flags } = handshake.decodeGreeting(yield { take: handshake.GREETING_BYTES });
  if ((flags & HANDSHAKE_FLAG.fixedNewstyle) === 0) {
    throw new LifeboatError('nbd.unsupported', 'the NBD server does not speak the fixed newstyle handshake');
  }
  const noZeroes = (flags & HANDSHAKE_FLAG.noZeroes) !== 0;
  send(handshake.encodeClientFlags(HANDSHAKE_FLAG.fixedNewstyle | (noZeroes ? HANDSHAKE_FLAG.noZeroes : 0)));
  return { noZeroes };
}

function* selectContexts(
  send: Send,
  wanted: { exportName: string; metaContexts: readonly string[] },
): Parser<Map<string, number>> {
  const queries = [...new Set([...wanted.metaContexts, ALLOCATION_CONTEXT])];
  const request = options.encodeMetaContextRequest({ exportName: wanted.exportName, queries });
  const outcome = yield* option(send, OPTION.setMetaContext, request);
  if (outcome.error?.type === OPTION_REPLY.unsupported) return new Map();
  if (outcome.error) throw exportError(wanted.exportName, outcome.error);
  const contexts = new Map<string, number>();
  for (const { id, name } of contextsIn(outcome)) {
    if (!queries.includes(name))
      throw protocolError(`the server selected the meta context '${name}', which nobody asked for`);
    if (contexts.has(name) || [...contexts.values()].includes(id)) {
      throw protocolError(`the server selected meta context '${name}' (${id}) twice`);
    }
    contexts.set(name, id);
  }
  return contexts;
}

function* listContexts(send: Send, exportName: string): Parser<string[]> {
  const request = options.encodeMetaContextRequest({ exportName, queries: [] });
  const outcome = yield* option(send, OPTION.listMetaContext, request);
  return contextsIn(outcome).map((context) => context.name);
}

function contextsIn(outcome: OptionOutcome): options.MetaContext[] {
  return outcome.replies
    .filter((reply) => reply.type === OPTION_REPLY.metaContext)
    .map((reply) => options.decodeMetaContext(reply.data));
}

interface OptionOutcome {
  readonly replies: readonly { type: number; data: Uint8Array }[];
  readonly error?: { readonly type: number; readonly message: string };
}

/** Sends one option and collects its replies up to ACK or error. */
function* option(send: Send, number: number, data: Uint8Array): Parser<OptionOutcome> {
  send(options.encodeOption(number, data));
  const replies: { type: number; data: Uint8Array }[] = [];
  for (;;) {
    const header = options.decodeOptionReplyHeader(yield { take: options.OPTION_REPLY_HEADER_BYTES });
    if (header.option !== number)
      throw protocolError(`reply to option ${header.option}, expected one to option ${number}`);
    if (header.lengthBytes > MAX_OPTION_REPLY_BYTES) {
      throw protocolError(
        `reply to option ${number} of ${header.lengthBytes} bytes; ${MAX_OPTION_REPLY_BYTES} are accepted`,
      );
    }
    // The view is valid until the next yield only.
    const payload = Uint8Array.from(yield { take: header.lengthBytes });
    if (header.type === OPTION_REPLY.ack) return { replies };
    if (isErrorReply(header.type)) {
      const message = new WireReader(payload.subarray(0, 4096), 'option error').message(Math.min(payload.length, 4096));
      const error = { type: header.type, message };
      if (header.type === OPTION_REPLY.tlsRequired) {
        throw new LifeboatError('nbd.unsupported', `the NBD server insists on TLS: ${describe(error)}`);
      }
      return { replies, error };
    }
    if (replies.length >= MAX_REPLIES_PER_OPTION)
      throw protocolError(`more than ${MAX_REPLIES_PER_OPTION} replies to option ${number}`);
    replies.push({ type: header.type, data: payload });
  }
}

function exportError(exportName: string, error: { type: number; message: string }): LifeboatError {
  const context = { exportName };
  if (error.type === OPTION_REPLY.unknown) {
    return new LifeboatError('nbd.export-unknown', `the server has no export '${exportName}' (${describe(error)})`, {
      context,
    });
  }
  if (error.type === OPTION_REPLY.shutdown) {
    return new LifeboatError(
      'nbd.connection-lost',
      `the server is shutting down and did not open export '${exportName}'`,
      { context },
    );
  }
  return new LifeboatError('nbd.export-refused', `the server refused export '${exportName}': ${describe(error)}`, {
    context,
  });
}

function describe(error: { type: number; message: string }): string {
  const name =
    Object.entries(OPTION_REPLY).find(([, type]) => type === error.type)?.[0] ?? `0x${error.type.toString(16)}`;
  return error.message === '' ? `it says '${name}'` : `it says '${name}': ${error.message}`;
}

function checkExport(exported: { sizeBytes: number; flags: number }): { sizeBytes: number; flags: number } {
  if ((exported.flags & EXPORT_FLAG.hasFlags) === 0) {
    throw protocolError(`export flags 0x${exported.flags.toString(16)} lack the bit that says they are flags`);
  }
  return { sizeBytes: exported.sizeBytes, flags: exported.flags };
}

function blockSizeFrom(infos: readonly options.ExportInfo[], sizeBytes: number): BlockSize {
  const said = infos.find((info) => info.kind === 'block-size');
  // A server that names no limits can take any alignment; the maximum is the protocol's default.
  if (!said) return { minimum: 1, preferred: 4096, maximum: DEFAULT_MAX_BLOCK_BYTES };
  const { minimum, preferred, maximum } = said;
  const powerOfTwo = minimum > 0 && minimum <= 65_536 && (minimum & (minimum - 1)) === 0;
  if (!powerOfTwo || maximum < minimum) {
    throw protocolError(`block size minimum ${minimum}, preferred ${preferred}, maximum ${maximum} are impossible`);
  }
  if (sizeBytes % minimum !== 0) {
    throw protocolError(`an export of ${sizeBytes} bytes cannot be read to its end in blocks of ${minimum}`);
  }
  return { minimum, preferred, maximum: maximum - (maximum % minimum) };
}
