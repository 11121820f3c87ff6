import { INFO, OPTION_MAGIC, OPTION_REPLY_MAGIC } from './protocol.ts';
import { encodeText, protocolError, u16, u32, u64, WireReader } from './wire.ts';

export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;

export function encodeOption(option: number, data: Uint8Array): Buffer {
  return Buffer.concat([u64(OPTION_MAGIC), u32(option), u32(data.length), data]);
}

export function decodeOptionHeader(bytes: Uint8Array): { option: number; lengthBytes: number } {
  const reader = new WireReader(bytes, 'option');
  const magic = reader.u64();
  if (magic !== OPTION_MAGIC) throw protocolError(`option: 0x${magic.toString(16)} in place of the option magic`);
  const header = { option: reader.u32(), lengthBytes: reader.u32() };
  reader.end();
  return header;
}

export interface OptionReplyHeader {
  readonly option: number;
  /** OPTION_REPLY. */
  readonly type: number;
  readonly lengthBytes: number;
}

export function encodeOptionReply(option: number, type: number, data: Uint8Array): Buffer {
  return Buffer.concat([u64(OPTION_REPLY_MAGIC), u32(option), u32(type), u32(data.length), data]);
}

export function decodeOptionReplyHeader(bytes: Uint8Array): OptionReplyHeader {
  const reader = new WireReader(bytes, 'option reply');
  const magic = reader.u64();
  if (magic !== OPTION_REPLY_MAGIC) throw protocolError(`option reply: 0x${magic.toString(16)} in place of its magic`);
  const header = { option: reader.u32(), type: reader.u32(), lengthBytes: reader.u32() };
  reader.end();
  return header;
}

/** NBD_OPT_GO and NBD_OPT_INFO: which export, and what else to say about it (INFO). */
export interface GoRequest {
  readonly exportName: string;
  readonly infos: readonly number[];
}

export function encodeGo(request: GoRequest): Buffer {
  const name = encodeText(request.exportName, 'the export name');
  return Buffer.concat([u32(name.length), name, u16(request.infos.length), ...request.infos.map(u16)]);
}

export function decodeGo(bytes: Uint8Array): GoRequest {
  const reader = new WireReader(bytes, 'GO option');
  const exportName = reader.text(reader.u32());
  const count = reader.u16();
  const infos: number[] = [];
  for (let i = 0; i < count; i++) infos.push(reader.u16());
  reader.end();
  return { exportName, infos };
}

/** NBD_REP_INFO. `unknown`: a kind from a later protocol, to be ignored. */
export type ExportInfo =
  | { readonly kind: 'export'; readonly sizeBytes: number; readonly flags: number }
  | { readonly kind: 'name' | 'description'; readonly text: string }
  | { readonly kind: 'block-size'; readonly minimum: number; readonly preferred: number; readonly maximum: number }
  | { readonly kind: 'unknown'; readonly type: number };

export function encodeInfo(info: Exclude<ExportInfo, { kind: 'unknown' }>): Buffer {
  switch (info.kind) {
    case 'export':
      return Buffer.concat([u16(INFO.export), u64(info.sizeBytes), u16(info.flags)]);
    case 'block-size':
      return Buffer.concat([u16(INFO.blockSize), u32(info.minimum), u32(info.preferred), u32(info.maximum)]);
    default: {
      const type = info.kind === 'name' ? INFO.name : INFO.description;
      return Buffer.concat([u16(type), encodeText(info.text, `the export ${info.kind}`)]);
    }
  }
}

export function decodeInfo(bytes: Uint8Array): ExportInfo {
  const reader = new WireReader(bytes, 'export information');
  const info = decodeInfoFields(reader);
  if (info.kind !== 'unknown') reader.end();
  return info;
}

function decodeInfoFields(reader: WireReader): ExportInfo {
  const type = reader.u16();
  switch (type) {
    case INFO.export:
      return { kind: 'export', sizeBytes: reader.offset(), flags: reader.u16() };
    case INFO.blockSize:
      return { kind: 'block-size', minimum: reader.u32(), preferred: reader.u32(), maximum: reader.u32() };
    case INFO.name:
      return { kind: 'name', text: reader.text(reader.remainingBytes) };
    case INFO.description:
      return { kind: 'description', text: reader.text(reader.remainingBytes) };
    default:
      return { kind: 'unknown', type };
  }
}

/** NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
export interface MetaContextRequest {
  readonly exportName: string;
  readonly queries: readonly string[];
}

export function encodeMetaContextRequest(request: MetaContextRequest): Buffer {
  const name = encodeText(request.exportName, 'the export name');
  const queries = request.queries.flatMap((query) => {
    const bytes = encodeText(query, 'a meta context');
    return [u32(bytes.length), bytes];
  });
  return Buffer.concat([u32(name.length), name, u32(request.queries.length), ...queries]);
}

export function decodeMetaContextRequest(bytes: Uint8Array): MetaContextRequest {
  const reader = new WireReader(bytes, 'meta context option');
  const exportName = reader.text(reader.u32());
  const count = reader.u32();
  const queries: string[] = [];
  // A hostile count ends the loop by running out of bytes: every query takes at least four.
  for (let i = 0; i < count; i++) queries.push(reader.text(reader.u32()));
  reader.end();
  return { exportName, queries };
}

export interface MetaContext {
  /** Names the context in block status replies of this connection. */
  readonly id: number;
  readonly name: string;
}

export function encodeMetaContext(context: MetaContext): Buffer {
  return Buffer.concat([u32(context.id), encodeText(context.name, 'a meta context')]);
}

export function decodeMetaContext(bytes: Uint8Array): MetaContext {
  const reader = new WireReader(bytes, 'meta context');
  return { id: reader.u32(), name: reader.text(reader.remainingBytes) };
}

export interface ListedExport {
  readonly name: string;
  /** For people; '' where the server has none. */
  readonly description: string;
}

export function encodeListedExport(listed: ListedExport): Buffer {
  const name = encodeText(listed.name, 'the export name');
  return Buffer.concat([u32(name.length), name, encodeText(listed.description, 'the export description')]);
}

export function decodeListedExport(bytes: Uint8Array): ListedExport {
  const reader = new WireReader(bytes, 'listed export');
  return { name: reader.text(reader.u32()), description: reader.text(reader.remainingBytes) };
}
