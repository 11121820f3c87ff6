/**
 * Numbers of the NBD protocol, fixed newstyle with structured replies. Source: proto.md of the NetworkBlockDevice
 * project. All integers on the wire are big-endian.
 *
 * ```
 *   client                                server
 *     │ ◄──────────── greeting ────────────── │   NBDMAGIC IHAVEOPT flags
 *     │ ───────────── client flags ─────────► │
 *     │ ───────────── option ───────────────► │   STRUCTURED_REPLY, SET_META_CONTEXT, GO …
 *     │ ◄──────────── option reply* ───────── │   … until ACK or an error; GO + ACK ends this phase
 *     │ ═════════════ request ══════════════► │   many at a time, named by a cookie
 *     │ ◄════════════ reply ═════════════════ │   in any order; structured: one or more chunks, the last says DONE
 * ```
 */

export const GREETING_MAGIC = 0x4e42_444d_4147_4943n;
export const OPTION_MAGIC = 0x4948_4156_454f_5054n;
/** In place of OPTION_MAGIC: a server of the handshake before 2011. */
export const OLDSTYLE_MAGIC = 0x0000_4202_8186_1253n;
export const OPTION_REPLY_MAGIC = 0x0003_e889_0455_65a9n;
export const REQUEST_MAGIC = 0x2560_9513;
export const SIMPLE_REPLY_MAGIC = 0x6744_6698;
export const STRUCTURED_REPLY_MAGIC = 0x668e_33ef;

export const HANDSHAKE_FLAG = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

const ERROR_REPLY = 0x8000_0000;
export const OPTION_REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  unsupported: ERROR_REPLY + 1,
  policy: ERROR_REPLY + 2,
  invalid: ERROR_REPLY + 3,
  tlsRequired: ERROR_REPLY + 5,
  unknown: ERROR_REPLY + 6,
  shutdown: ERROR_REPLY + 7,
  tooBig: ERROR_REPLY + 9,
} as const;

export function isErrorReply(type: number): boolean {
  return type >= ERROR_REPLY;
}

export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const EXPORT_FLAG = {
  hasFlags: 1,
  readOnly: 2,
  sendFlush: 4,
  sendWriteZeroes: 64,
  sendDf: 128,
  canMultiConn: 256,
} as const;

export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const COMMAND_FLAG = { df: 4, reqOne: 8 } as const;

export const CHUNK = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;
export const CHUNK_FLAG_DONE = 1;

export function isErrorChunk(type: number): boolean {
  return (type & 0x8000) !== 0;
}

/** Errors on the wire are these numbers on every platform. */
export const NBD_ERRNO = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

export function errnoName(errno: number): string {
  return Object.entries(NBD_ERRNO).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
}

export const ALLOCATION_CONTEXT = 'base:allocation';
export const ALLOCATION_FLAG = { hole: 1, zero: 2 } as const;

/** Longest string (export name, context, message) the protocol allows. */
export const MAX_STRING_BYTES = 4096;
/** Largest read or write where a server names no limit of its own. */
export const DEFAULT_MAX_BLOCK_BYTES = 32 * 1024 * 1024;
