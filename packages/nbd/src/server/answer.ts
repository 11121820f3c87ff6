import type { Extent } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { ALLOCATION_FLAG, COMMAND, COMMAND_FLAG, NBD_ERRNO } from '../protocol.ts';
import * as codec from '../reply-codec.ts';
import type { NbdRequest } from '../request-codec.ts';
import { MAX_STATUS_BYTES, MAX_STATUS_ENTRIES, MIN_HOLE_READ_BYTES } from './limits.ts';
import { ALLOCATION_CONTEXT_ID, type ServedExport } from './negotiation.ts';

interface Run {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * The whole reply to one request, as parts to be written in this order. Throws what the device throws.
 * Reads are answered with holes where the device's extents have some, so that QEMU need not look at zeros.
 */
export async function answer(
  served: ServedExport,
  request: NbdRequest,
  options: { maxRequestBytes: number; signal: AbortSignal },
): Promise<Uint8Array[]> {
  const refusal = refuse(served, request, options.maxRequestBytes);
  if (refusal) return errorReply(served, request, refusal.errno, refusal.message);
  const run = { offsetBytes: Number(request.offsetBytes), lengthBytes: request.lengthBytes };
  if (request.command === COMMAND.blockStatus) return await blockStatus(served, request, run, options.signal);
  return await read(served, request, run, options.signal);
}

/** Says no, in the form that was negotiated. */
export function errorReply(served: ServedExport, request: NbdRequest, errno: number, message: string): Uint8Array[] {
  const { cookie } = request;
  return [
    served.structured ? codec.encodeErrorChunk(cookie, { errno, message }) : codec.encodeSimpleReply({ errno, cookie }),
  ];
}

function refuse(
  served: ServedExport,
  request: NbdRequest,
  maxRequestBytes: number,
): { errno: number; message: string } | undefined {
  const { EINVAL, EOVERFLOW, EPERM } = NBD_ERRNO;
  const { command, lengthBytes, offsetBytes } = request;
  const writes: readonly number[] = [COMMAND.write, COMMAND.writeZeroes, COMMAND.trim];
  if (writes.includes(command)) return { errno: EPERM, message: 'this export is read-only' };
  const reads: readonly number[] = served.allocation ? [COMMAND.read, COMMAND.blockStatus] : [COMMAND.read];
  if (!reads.includes(command)) return { errno: EINVAL, message: `command ${command} was not offered` };
  const allowedFlags = command === COMMAND.blockStatus ? COMMAND_FLAG.reqOne : served.structured ? COMMAND_FLAG.df : 0;
  if ((request.flags & ~allowedFlags) !== 0)
    return { errno: EINVAL, message: `flags ${request.flags} do not go with command ${command}` };
  if (lengthBytes === 0) return { errno: EINVAL, message: 'a length of zero' };
  const { sizeBytes } = served.device;
  if (offsetBytes + BigInt(lengthBytes) > BigInt(sizeBytes)) {
    return { errno: EINVAL, message: `${lengthBytes} bytes at ${offsetBytes} lie outside ${sizeBytes} bytes` };
  }
  if (command === COMMAND.read && lengthBytes > maxRequestBytes) {
    return { errno: EOVERFLOW, message: `a read of ${lengthBytes} bytes; ${maxRequestBytes} are allowed` };
  }
  return undefined;
}

async function read(served: ServedExport, request: NbdRequest, run: Run, signal: AbortSignal): Promise<Uint8Array[]> {
  const { cookie } = request;
  const { device, structured } = served;
  const whole = !structured || (request.flags & COMMAND_FLAG.df) !== 0 || run.lengthBytes < MIN_HOLE_READ_BYTES;
  if (whole) {
    const data = Buffer.allocUnsafe(run.lengthBytes);
    await device.read(run.offsetBytes, data, { signal });
    const start = structured
      ? codec.encodeDataChunkStart({ cookie, done: true }, run)
      : codec.encodeSimpleReply({ errno: 0, cookie });
    return [start, data];
  }
  const extents = joined(await checkedExtents(served, run, signal));
  const parts: Uint8Array[] = [];
  const reads: Promise<void>[] = [];
  for (const [index, extent] of extents.entries()) {
    const start = { cookie, done: index === extents.length - 1 };
    if (extent.kind === 'data') {
      const data = Buffer.allocUnsafe(extent.lengthBytes);
      reads.push(device.read(extent.offsetBytes, data, { signal }));
      parts.push(codec.encodeDataChunkStart(start, extent), data);
    } else parts.push(codec.encodeHoleChunk(start, extent));
  }
  // All, also when one fails: nothing is under way for a request that has been answered.
  const failed = (await Promise.allSettled(reads)).find((outcome) => outcome.status === 'rejected');
  if (failed) throw failed.reason;
  return parts;
}

async function blockStatus(
  served: ServedExport,
  request: NbdRequest,
  run: Run,
  signal: AbortSignal,
): Promise<Uint8Array[]> {
  const looked = { ...run, lengthBytes: Math.min(run.lengthBytes, MAX_STATUS_BYTES) };
  const extents = await checkedExtents(served, looked, signal);
  const limit = (request.flags & COMMAND_FLAG.reqOne) !== 0 ? 1 : MAX_STATUS_ENTRIES;
  const entries = extents
    .slice(0, limit)
    .map(({ kind, lengthBytes }) => ({ lengthBytes, flags: allocationFlags(kind) }));
  return [codec.encodeStatusChunk({ cookie: request.cookie, done: true }, ALLOCATION_CONTEXT_ID, entries)];
}

function allocationFlags(kind: Extent['kind']): number {
  if (kind === 'data') return 0;
  return kind === 'zero' ? ALLOCATION_FLAG.zero : ALLOCATION_FLAG.zero | ALLOCATION_FLAG.hole;
}

/** A map with a gap would be served as wrong content without a trace: it is checked before it is believed. */
async function checkedExtents(served: ServedExport, run: Run, signal: AbortSignal): Promise<Extent[]> {
  const extents = await served.device.extents(run, { signal });
  let at = run.offsetBytes;
  for (const extent of extents) {
    if (extent.offsetBytes !== at || extent.lengthBytes <= 0) break;
    at += extent.lengthBytes;
  }
  const end = run.offsetBytes + run.lengthBytes;
  if (at !== end || extents.length === 0) {
    throw new LifeboatError('internal.bug', `extents of export '${served.exportName}' reach ${at}, not ${end}`);
  }
  return extents;
}

/** For a read, a hole and zeros are the same, and holes shorter than a page are not worth a chunk. */
function joined(extents: readonly Extent[]): Extent[] {
  const runs: Extent[] = [];
  for (const extent of extents) {
    const kind = extent.kind === 'data' || extent.lengthBytes < 4096 ? 'data' : 'hole';
    const last = runs.at(-1);
    if (last?.kind === kind) runs[runs.length - 1] = { ...last, lengthBytes: last.lengthBytes + extent.lengthBytes };
    else runs.push({ ...extent, kind });
  }
  return runs;
}
