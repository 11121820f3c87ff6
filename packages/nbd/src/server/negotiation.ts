/** The server's side of the handshake, as a parser: given bytes by a FrameReader, it sends through a callback. */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { hasCode } from '@lifeboat/foundation/errors';
import type { Parser } from '../frame-reader.ts';
import * as handshake from '../handshake-codec.ts';
import * as options from '../option-codec.ts';
import { ALLOCATION_CONTEXT, EXPORT_FLAG, HANDSHAKE_FLAG, INFO, OPTION, OPTION_REPLY } from '../protocol.ts';
import { protocolError } from '../wire.ts';
import { MAX_OPTION_BYTES, MAX_OPTIONS } from './limits.ts';

/** What a connection agreed on. */
export interface ServedExport {
  readonly exportName: string;
  readonly device: BlockDevice;
  readonly structured: boolean;
  /** base:allocation was selected for this export. */
  readonly allocation: boolean;
}

export interface NegotiationInput {
  readonly send: (bytes: Uint8Array) => void;
  readonly exports: ReadonlyMap<string, BlockDevice>;
  readonly maxRequestBytes: number;
}

/** The only context there is, so its id is a constant. */
export const ALLOCATION_CONTEXT_ID = 1;
const PREFERRED_BLOCK_BYTES = 64 * 1024;
const EMPTY = new Uint8Array(0);

/** Returns undefined when the client took its leave. Errors: `nbd.protocol-error`, after which it is disconnected. */
export function* negotiate(input: NegotiationInput): Parser<ServedExport | undefined> {
  input.send(handshake.encodeGreeting(HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes));
  const flags = handshake.decodeClientFlags(yield { take: handshake.CLIENT_FLAGS_BYTES });
  const known = HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes;
  if ((flags & ~known) !== 0) throw protocolError(`client flags 0x${flags.toString(16)} are not known`);
  const state: State = { ...input, structured: false, allocationOf: undefined };
  for (let count = 0; count < MAX_OPTIONS; count++) {
    const { option, lengthBytes } = options.decodeOptionHeader(yield { take: options.OPTION_HEADER_BYTES });
    if (lengthBytes > MAX_OPTION_BYTES) {
      throw protocolError(`option ${option} of ${lengthBytes} bytes; ${MAX_OPTION_BYTES} are accepted`);
    }
    const data = yield { take: lengthBytes };
    if (option === OPTION.exportName) return byName(state, data, (flags & HANDSHAKE_FLAG.noZeroes) === 0);
    if (option === OPTION.abort) {
      input.send(options.encodeOptionReply(option, OPTION_REPLY.ack, EMPTY));
      return undefined;
    }
    const chosen = answer(state, option, data);
    if (chosen) return chosen;
  }
  throw protocolError(`more than ${MAX_OPTIONS} options`);
}

interface State extends NegotiationInput {
  structured: boolean;
  /** The export for which base:allocation was selected. */
  allocationOf: string | undefined;
}

/** Answers one option; returns the export when that was GO and went well. */
function answer(state: State, option: number, data: Uint8Array): ServedExport | undefined {
  const reply = (type: number, payload: Uint8Array = EMPTY): void =>
    state.send(options.encodeOptionReply(option, type, payload));
  const refuse = (type: number, message: string): void => reply(type, Buffer.from(message, 'utf8'));
  try {
    switch (option) {
      case OPTION.structuredReply:
        if (data.length > 0) throw protocolError('STRUCTURED_REPLY takes no data');
        state.structured = true;
        reply(OPTION_REPLY.ack);
        return undefined;
      case OPTION.list:
        if (data.length > 0) throw protocolError('LIST takes no data');
        for (const name of state.exports.keys()) {
          reply(OPTION_REPLY.server, options.encodeListedExport({ name, description: '' }));
        }
        reply(OPTION_REPLY.ack);
        return undefined;
      case OPTION.listMetaContext:
      case OPTION.setMetaContext:
        metaContexts(state, option, options.decodeMetaContextRequest(data), reply);
        return undefined;
      case OPTION.info:
      case OPTION.go:
        return open(state, option, options.decodeGo(data), reply);
      default:
        refuse(OPTION_REPLY.unsupported, `option ${option} is not served here`);
        return undefined;
    }
  } catch (error) {
    // The option's length was sound, so the stream is still in step: the client may try something else.
    if (!hasCode(error, 'nbd.protocol-error')) throw error;
    refuse(OPTION_REPLY.invalid, error.message);
    return undefined;
  }
}

type Reply = (type: number, payload?: Uint8Array) => void;

function open(state: State, option: number, request: options.GoRequest, reply: Reply): ServedExport | undefined {
  const device = state.exports.get(request.exportName);
  if (!device) {
    reply(OPTION_REPLY.unknown, Buffer.from('no such export', 'utf8'));
    return undefined;
  }
  const info = (about: Parameters<typeof options.encodeInfo>[0]): void =>
    reply(OPTION_REPLY.info, options.encodeInfo(about));
  info({ kind: 'export', sizeBytes: device.sizeBytes, flags: exportFlags(state.structured) });
  info({ kind: 'block-size', minimum: 1, preferred: PREFERRED_BLOCK_BYTES, maximum: state.maxRequestBytes });
  if (request.infos.includes(INFO.name)) info({ kind: 'name', text: request.exportName });
  reply(OPTION_REPLY.ack);
  return option === OPTION.go ? served(state, request.exportName, device) : undefined;
}

function metaContexts(state: State, option: number, request: options.MetaContextRequest, reply: Reply): void {
  if (!state.structured) throw protocolError('meta contexts need structured replies first');
  if (!state.exports.has(request.exportName)) {
    reply(OPTION_REPLY.unknown, Buffer.from('no such export', 'utf8'));
    return;
  }
  const listing = option === OPTION.listMetaContext;
  // In a list, no query at all and a bare namespace ask for everything there.
  const asked = request.queries.some((query) => query === ALLOCATION_CONTEXT || (listing && query === 'base:'));
  const offered = asked || (listing && request.queries.length === 0);
  if (!listing) state.allocationOf = offered ? request.exportName : undefined;
  if (offered) {
    const id = listing ? 0 : ALLOCATION_CONTEXT_ID;
    reply(OPTION_REPLY.metaContext, options.encodeMetaContext({ id, name: ALLOCATION_CONTEXT }));
  }
  reply(OPTION_REPLY.ack);
}

/** EXPORT_NAME has no way to say no. */
function byName(state: State, data: Uint8Array, padded: boolean): ServedExport {
  const exportName = Buffer.from(data.buffer, data.byteOffset, data.length).toString('utf8');
  const device = state.exports.get(exportName);
  if (!device) throw protocolError(`no export '${exportName}'`);
  const reply = { sizeBytes: device.sizeBytes, flags: exportFlags(state.structured) };
  state.send(handshake.encodeExportNameReply(reply, padded));
  return served(state, exportName, device);
}

function served(state: State, exportName: string, device: BlockDevice): ServedExport {
  const allocation = state.structured && state.allocationOf === exportName;
  return { exportName, device, structured: state.structured, allocation };
}

function exportFlags(structured: boolean): number {
  // Nothing is ever written, so all connections see the same: CAN_MULTI_CONN.
  const always = EXPORT_FLAG.hasFlags | EXPORT_FLAG.readOnly | EXPORT_FLAG.canMultiConn;
  return always | (structured ? EXPORT_FLAG.sendDf : 0);
}
