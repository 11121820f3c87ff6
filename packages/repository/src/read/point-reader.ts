/** Reads and checks the objects of recovery points. */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, parsePointId, type MachineId, type PointId } from '@lifeboat/foundation/ids';

import { assertValid, PointValidity } from '../collect/point-validity.ts';
import type { Core } from '../core.ts';
import { sha256 } from '../format/frame.ts';
import { MAX_POINT_BODY_BYTES, MAX_POINT_BYTES } from '../format/limits.ts';
import { hex, pointObject, pointOfObject, POINTS, pointsPrefix } from '../format/names.ts';
import { decodePointBody, decodePointObject, type PointBody, type PointHeader } from '../format/point.ts';
import { assertNotRevoked } from '../agents/revocations.ts';
import { inLanes } from '../lock/lanes.ts';
import { open } from '../seal/aead.ts';
import { authorOf, type AgentCertificate } from '../seal/certificate.ts';
import { pointSeal, signedBytes } from '../seal/point-seal.ts';
import { isBadObject } from '../store/bad-object.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';

/** A recovery point that was read and checked: signature, seal, and that it is what its name says. */
export interface Point extends PointBody {
  readonly machineId: MachineId;
  readonly pointId: PointId;
  readonly sessionId: string;
  /** Unix ms, by the clock of the machine that wrote it. */
  readonly createdMs: number;
  /** SHA-256 of its object, hexadecimal: what the next point of the machine refers to. */
  readonly hash: string;
  readonly previous?: { readonly pointId: string; readonly hash: string };
  /** Who signed it, where that was not the tenant itself. */
  readonly agent?: { readonly agentId: string; readonly name: string };
}

export type PointSummary =
  | {
      readonly state: 'readable';
      readonly machineId: MachineId;
      readonly pointId: PointId;
      readonly createdMs: number;
      readonly sessionId: string;
      readonly hash: string;
      readonly machine: PointBody['machine'];
      readonly capture: PointBody['capture'];
      readonly disks: readonly { readonly name: string; readonly sizeBytes: number }[];
      /**
       * Whether the point it names as its predecessor is the one that is there. 'missing' is what a pruned or deleted point
       * leaves; 'changed' means that somebody replaced it.
       */
      readonly previous: 'none' | 'linked' | 'missing' | 'changed';
    }
  | {
      readonly state: 'damaged';
      /** The object's name in the store; machine and point only as far as the name says them. */
      readonly object: string;
      readonly machineId?: MachineId;
      readonly pointId?: PointId;
      readonly error: LifeboatError;
    };

type Damaged = Extract<PointSummary, { state: 'damaged' }>;
/** A summary before all points are known. */
type Listed = Omit<Extract<PointSummary, { state: 'readable' }>, 'previous'> & Pick<Point, 'previous'>;

/** Points that are read at a time; of each the whole object is in memory, which is small but for those with many files. */
const LANES = 8;

/**
 * Throws `repository.point-missing` (also for a point that was pruned), `repository.point-damaged`, `repository.agent-revoked`,
 * `repository.newer-version`.
 */
export async function readPoint(
  core: Core,
  id: { machineId: MachineId; pointId: PointId },
  options: StoreOptions = {},
): Promise<Point> {
  const name = pointObject(id.machineId, id.pointId);
  try {
    const point = await earliestValid(core, id, options);
    await assertValid(core, point, options);
    await assertNotRevoked(core, point, options);
    return point;
  } catch (error) {
    if (hasCode(error, 'repository.object-missing')) {
      throw new LifeboatError('repository.point-missing', `machine ${id.machineId} has no point ${id.pointId}`, {
        context: id,
        cause: error,
      });
    }
    throw asPointDamage(error, name);
  }
}

/**
 * The earliest version of a point's name that is one, where the store keeps versions: what somebody put there before the commit
 * does not hide the point, and what is put over it does not replace it.
 */
export async function earliestValid(
  core: Core,
  id: { machineId: MachineId; pointId: PointId },
  options: StoreOptions,
): Promise<Point> {
  return (await earliestObject(core, id, options)).point;
}

/** The same, and its bytes. */
export async function earliestObject(
  core: Core,
  id: { machineId: MachineId; pointId: PointId },
  options: StoreOptions,
): Promise<{ readonly point: Point; readonly object: Uint8Array }> {
  const name = pointObject(id.machineId, id.pointId);
  const limited = { ...options, maxBytes: MAX_POINT_BYTES };
  try {
    const object = await core.store.get(name, limited);
    return { point: openPoint(core, object, id), object };
  } catch (error) {
    if (!isBadObject(error) && !hasCode(error, 'repository.point-damaged')) throw error;
    for (const version of (await core.store.versions?.(name, options)) ?? []) {
      if (version.sizeBytes > MAX_POINT_BYTES) continue;
      try {
        const object = await version.get(limited);
        return { point: openPoint(core, object, id), object };
      } catch (other) {
        if (!isBadObject(other) && !hasCode(other, 'repository.point-damaged')) throw other;
      }
    }
    throw error;
  }
}

/** Checks and opens the bytes of a point. Throws `repository.point-damaged` or `repository.newer-version`. */
export function openPoint(core: Core, object: Uint8Array, id: { machineId: MachineId; pointId: PointId }): Point {
  const name = pointObject(id.machineId, id.pointId);
  try {
    const { header, headerBytes, sealedBody, ...signed } = decodePointObject(object, name);
    const bad = (why: string): LifeboatError =>
      new LifeboatError('repository.point-damaged', `${name}: ${why}`, { context: { object: name } });
    if (header.machineId !== id.machineId || header.pointId !== id.pointId) {
      throw bad(`it is point ${header.pointId} of machine ${header.machineId}`);
    }
    if (Buffer.compare(header.tenantId, core.keyring.tenantId) !== 0) throw bad('it belongs to another tenant');
    const author = authorOf(core.keyring, signedBytes(headerBytes), { signer: header.signer, ...signed }, name);
    if (!author) throw bad('its signature is not ours');
    const refusal = author === 'tenant' ? undefined : whyNotBy(author, header);
    if (refusal) throw bad(refusal);
    if (!sha256(sealedBody).equals(header.bodyHash)) throw bad('its body is not the one that was signed');
    const body = openBody(core, header, sealedBody, name);
    if (!body) throw bad('its body does not open');
    const { chunkSizeBytes } = core.superblock;
    const odd = body.disks.find(({ root }) => root.chunkSizeBytes !== chunkSizeBytes);
    if (odd) throw bad(`its disk ${odd.name} has chunks of ${odd.root.chunkSizeBytes} bytes, not of ${chunkSizeBytes}`);
    const { sessionId, createdMs, previous } = header;
    return {
      ...body,
      ...id,
      sessionId,
      createdMs,
      hash: hex(sha256(object)),
      ...(previous ? { previous: { pointId: previous.pointId, hash: hex(previous.hash) } } : {}),
      ...(author === 'tenant' ? {} : { agent: { agentId: author.agentId, name: author.name } }),
    };
  } catch (error) {
    throw asPointDamage(error, name);
  }
}

/** Why the agent's certificate does not cover the point. The point's time is the agent's own word: who lies is for a revocation. */
function whyNotBy(agent: AgentCertificate, { machineId, createdMs }: PointHeader): string | undefined {
  const { name, machines, mayBackUp, notBeforeMs, notAfterMs } = agent;
  if (!mayBackUp || !machines.some((machine) => machine === machineId))
    return `agent ${name} may not back up machine ${machineId}`;
  if (createdMs >= notBeforeMs && createdMs <= notAfterMs) return undefined;
  const day = (ms: number): string => new Date(ms).toISOString();
  return `it was made at ${day(createdMs)}; agent ${name} is certified from ${day(notBeforeMs)} to ${day(notAfterMs)}`;
}

/**
 * Summaries, oldest first, of one machine or of all. A point that cannot be read is listed as damaged; a listing that fails
 * throws: an error must never look like "no points".
 */
export async function listPoints(
  core: Core,
  machineId?: MachineId,
  options: StoreOptions = {},
): Promise<PointSummary[]> {
  const names: string[] = [];
  for await (const name of listNames(core.store, machineId ? pointsPrefix(machineId) : POINTS, options)) {
    const key = core.keyring.role === 'tenant' ? undefined : pointOfObject(name);
    // What the keys at hand do not open is none of the business of who has them.
    if (!key || core.keyring.mayOpen(key)) names.push(name);
  }
  // After the points: a tombstone that is written in between hides its point.
  const validity = await PointValidity.load(core, machineId, options);
  const found: (Listed | Damaged | undefined)[] = names.map(() => undefined);
  await inLanes(LANES, names.entries(), async ([i, name]) => {
    const point = await readOrReport(core, name, { validity, options });
    // What else a point holds, its files above all, is let go of at once.
    found[i] = point && !('state' in point) ? listed(point) : point;
  });
  const points = found.filter((point) => point !== undefined);
  const hashes = new Map(
    points.map((point) => (point.state === 'damaged' ? ['', ''] : [`${point.machineId} ${point.pointId}`, point.hash])),
  );
  return points.map((point) => (point.state === 'damaged' ? point : withPrevious(point, hashes))).toSorted(byTime);
}

/**
 * The machine's newest point that can be read, by the time in its name; damaged ones are passed over. A listing and mostly one
 * read, however many points there are. Undefined when there is none; a listing that fails throws.
 */
export async function newestReadable(
  core: Core,
  machineId: MachineId,
  options: StoreOptions = {},
): Promise<Point | undefined> {
  const names: string[] = [];
  for await (const name of listNames(core.store, pointsPrefix(machineId), options)) names.push(name);
  const validity = await PointValidity.load(core, machineId, options);
  for (const name of names.toSorted().toReversed()) {
    const found = await readOrReport(core, name, { validity, options });
    if (found && !('state' in found)) return found;
  }
  return undefined;
}

/** Undefined for what is no point any more, or never was one. */
async function readOrReport(
  core: Core,
  name: string,
  how: { validity: PointValidity; options: StoreOptions },
): Promise<Point | Damaged | undefined> {
  const { validity, options } = how;
  const id: { machineId?: MachineId; pointId?: PointId } = {};
  try {
    const [machine = '', pointText = ''] = name.slice(POINTS.length).split('/');
    const key = { machineId: parseMachineId(machine), pointId: parsePointId(pointText) };
    Object.assign(id, key);
    if (await validity.isBuried(key, options)) return undefined;
    const point = await earliestValid(core, key, options);
    if (await validity.isVoid(point, options)) return undefined;
    const refusal = await validity.refusal(point, options);
    return refusal ? { state: 'damaged', object: name, ...id, error: refusal } : point;
  } catch (error) {
    // Pruned, and collected, since it was listed.
    if (hasCode(error, 'repository.object-missing')) return undefined;
    // Larger than a point may be, shorter than the store says, or on bad sectors.
    if (isBadObject(error))
      return { state: 'damaged', object: name, ...id, error: asPointDamage(error, name) as LifeboatError };
    const known = hasCode(error, 'repository.point-damaged', 'repository.newer-version', 'input.invalid');
    if (!known) throw error;
    return { state: 'damaged', object: name, ...id, error };
  }
}

function listed(point: Point): Listed {
  const { machineId, pointId, createdMs, sessionId, hash, machine, capture, previous } = point;
  const disks = point.disks.map(({ name, root }) => ({ name, sizeBytes: root.sizeBytes }));
  return { state: 'readable', machineId, pointId, createdMs, sessionId, hash, machine, capture, disks, previous };
}

function withPrevious({ previous, ...point }: Listed, hashes: ReadonlyMap<string, string>): PointSummary {
  if (!previous) return { ...point, previous: 'none' };
  const there = hashes.get(`${point.machineId} ${previous.pointId}`);
  if (there === undefined) return { ...point, previous: 'missing' };
  return { ...point, previous: there === previous.hash ? 'linked' : 'changed' };
}

/** By the writer's clock, then by name; damaged ones by the time in their name. */
function byTime(a: PointSummary, b: PointSummary): number {
  const key = (point: PointSummary): string => point.pointId ?? '';
  if (a.state === 'readable' && b.state === 'readable' && a.createdMs !== b.createdMs) return a.createdMs - b.createdMs;
  return key(a) < key(b) ? -1 : 1;
}

function openBody(core: Core, header: PointHeader, sealedBody: Uint8Array, what: string): PointBody | undefined {
  const packed = open(pointSeal(core.keyring.pointKeyOf(header), header), sealedBody);
  const plain = packed && core.zstd(1).decompress(packed, MAX_POINT_BODY_BYTES);
  return plain && decodePointBody(plain, what);
}

function asPointDamage(error: unknown, name: string): unknown {
  if (!isBadObject(error)) return error;
  return new LifeboatError('repository.point-damaged', error.message, { context: { object: name }, cause: error });
}
