/**
 * Names of objects in a store. What a retention lock must hold lies under `data/`; what is rewritten, collected or lost
 * without harm lies under `control/`. Names of records there, all but index segments, of relocations, ledger entries, links of machine chains
 * and control objects end in a tag when they are stored: `seal/control-records.ts`.
 */
import { hasCode } from '@lifeboat/foundation/errors';
import {
  parseMachineId,
  parsePointId,
  type Branded,
  type MachineId,
  type PointId,
  type SessionId,
} from '@lifeboat/foundation/ids';

/** Keyed hash of a chunk's plaintext, 64 hex digits. */
export type ChunkId = Branded<string, 'ChunkId'>;
/** Hash over everything in a pack, 64 hex digits. */
export type PackName = Branded<string, 'PackName'>;

export const SUPERBLOCK = 'lifeboat.repository';
export const KEYS = 'keys/';
export const DATA = 'data/';
/** What belongs to the tenants beside the first: `store/tenant-store.ts` gives each of them its part under the names of here. */
export const OTHER_TENANTS = 'data/tenants/';
export const PACKS = 'data/packs/';
export const POINTS = 'data/points/';
export const RELOCATIONS = 'data/relocations/';
/** Under `data/`, not `control/`: a hold must be as hard to take away as the points it holds. */
export const LEDGER = 'data/retention/';
/** As hard to take away as the points they name. Their names end in a tag, as those of records under `control/` do. */
export const CHAINS = 'data/chains/';
/** As hard to take away as the points it speaks of. Names end in a tag, as those of records under `control/` do. */
export const EVIDENCE = 'data/evidence/';
/** Under `data/`: who takes a revocation away must not make a stolen agent's points count. Names end in a tag, as under `control/`. */
export const AGENTS = 'data/agents/';
/** What with the key rebuilds the control plane. Named with tags, too, and kept as long as the points. */
export const OBJECTS = 'data/objects/';
/** Of these every backup writes its machine's. */
export const MACHINE_OBJECTS = `${OBJECTS}machine/`;
export const CONTROL = 'control/';
export const INDEX = 'control/index/';
export const SESSIONS = 'control/sessions/';
export const FENCES = 'control/fences/';
export const OUTCOMES = 'control/outcomes/';
export const DAMAGE = 'control/damage/';
/** Which packs checks looked at, and when. */
export const VERIFIED = 'control/verified/';
export const TOMBSTONES = 'control/tombstones/';
/** Condemn lists with their parts, and the marks that they were swept: one listing gives all of it. */
export const CONDEMNED = 'control/condemned/';
export const CONDEMN_LISTS = `${CONDEMNED}lists/`;
export const CONDEMN_SWEPT = `${CONDEMNED}swept/`;
export const CONDEMN_PARTS = `${CONDEMNED}parts/`;

/** Objects that are put and removed at once, to learn what a store can do. */
export const PROBES = { control: `${CONTROL}probes/`, data: 'data/probes/' } as const;

const HASH = /^[0-9a-f]{64}$/;

export function packNameOf(hash: Uint8Array): PackName {
  return hex(hash) as PackName;
}

export function chunkIdOf(hash: Uint8Array): ChunkId {
  return hex(hash) as ChunkId;
}

/** A key set is stored twice: it is small, and losing it loses everything. */
export type KeySetCopy = 'a' | 'b';
export const keySetsPrefix = (tenant: string): string => `${KEYS}${tenant}/`;
export const keySetObject = (tenant: string, generation: number, copy: KeySetCopy): string =>
  `${keySetsPrefix(tenant)}${String(generation).padStart(6, '0')}-${copy}`;

const KEY_SET = /^keys\/([0-9a-f]{32})\/(\d{6})-([ab])$/;
/** What the name of a key set says, or undefined for a stranger. */
export function keySetOfObject(object: string): { tenant: string; generation: number } | undefined {
  const found = KEY_SET.exec(object);
  return found?.[1] === undefined ? undefined : { tenant: found[1], generation: Number(found[2]) };
}

/** 256 folders, so that no directory of a large repository gets slow. */
export const packObject = (pack: PackName): string => `${PACKS}${pack.slice(0, 2)}/${pack}`;
export const pointsPrefix = (machineId: MachineId): string => `${POINTS}${machineId}/`;
export const pointObject = (machineId: MachineId, pointId: PointId): string => `${pointsPrefix(machineId)}${pointId}`;
/** By the pack that was left, so that who does not find a blob asks one place. */
export const relocationsPrefix = (pack: PackName): string => `${RELOCATIONS}${pack.slice(0, 2)}/${pack}/`;
/** Stored under a name with a tag (`seal/control-records.ts`); those written before relocations had one lie under this. */
export const relocationObject = (pack: PackName, relocationId: string): string =>
  `${relocationsPrefix(pack)}${relocationId}`;
/** The pack a relocation leads from, by its name. */
export const relocatedPackOf = (object: string): PackName =>
  object.slice(0, object.lastIndexOf('/')).slice(-64) as PackName;
/** An id has no dot: what follows one is the tag. */
export const relocationIdOf = (object: string): string => object.slice(object.lastIndexOf('/') + 1).replace(/\..*/, '');
export const sessionOpenObject = (sessionId: SessionId): string => `${SESSIONS}${sessionId}/open`;
export const sessionClosedObject = (sessionId: SessionId): string => `${SESSIONS}${sessionId}/closed`;
export const fenceObject = (sessionId: SessionId): string => `${FENCES}${sessionId}`;
export const outcomeObject = (sessionId: SessionId): string => `${OUTCOMES}${sessionId}`;
export const damageOpenObject = (reportId: string): string => `${DAMAGE}${reportId}/open`;
export const damageClosedObject = (reportId: string): string => `${DAMAGE}${reportId}/closed`;
export const tombstonesPrefix = (machineId: MachineId): string => `${TOMBSTONES}${machineId}/`;
export const tombstoneObject = (machineId: MachineId, pointId: PointId): string =>
  `${tombstonesPrefix(machineId)}${pointId}`;
export const condemnListObject = (number: number): string => `${CONDEMN_LISTS}${eightDigits(number)}`;
export const condemnSweptObject = (number: number): string => `${CONDEMN_SWEPT}${eightDigits(number)}`;
/** `listId`: 32 hexadecimal digits, drawn by the collector that prepares the list. */
export const condemnPartObject = (part: { listId: string; kind: CondemnPartKind; sequence: number }): string =>
  `${CONDEMN_PARTS}${part.listId}/${part.kind}-${String(part.sequence).padStart(6, '0')}`;
export const ledgerObject = (number: number): string => `${LEDGER}${eightDigits(number)}`;
export const chainPrefix = (machineId: MachineId): string => `${CHAINS}${machineId}/`;
export const chainLinkObject = (machineId: MachineId, number: number): string =>
  `${chainPrefix(machineId)}${eightDigits(number)}`;
export const evidencePrefix = (machineId: MachineId): string => `${EVIDENCE}${machineId}/`;
export const evidenceObject = (machineId: MachineId, number: number): string =>
  `${evidencePrefix(machineId)}${eightDigits(number)}`;
export const verifiedObject = (recordId: string): string => `${VERIFIED}${recordId}`;
/** `kind` and `id`: `a-z 0-9 -`. */
export const controlObjectPrefix = (kind: string): string => `${OBJECTS}${kind}/`;
export const controlObject = (of: { kind: string; id: string; version: number }): string =>
  `${controlObjectPrefix(of.kind)}${of.id}/${eightDigits(of.version)}`;
/** The number of a ledger entry, or undefined for a stranger. */
export function ledgerNumberOf(object: string): number | undefined {
  const number = Number(object.slice(LEDGER.length));
  return Number.isInteger(number) && number > 0 && object === ledgerObject(number) ? number : undefined;
}
/** `agentId`: 32 hexadecimal digits. */
export const agentPrefix = (agentId: string): string => `${AGENTS}${agentId}/`;
export const certificateObject = (agentId: string): string => `${agentPrefix(agentId)}certificate`;
/** `revocation`: 16 hexadecimal digits, drawn anew for each. */
export const revocationObject = (agentId: string, revocation: string): string =>
  `${agentPrefix(agentId)}revoked-${revocation}`;
const AGENT_OBJECT = /^data\/agents\/([0-9a-f]{32})\/(certificate|revoked-[0-9a-f]{16})$/;
/** What an object among the agents is by its name without its tag, or undefined for a stranger. */
export function agentObjectOf(plain: string): { agentId: string; kind: 'certificate' | 'revocation' } | undefined {
  const [, agentId, what] = AGENT_OBJECT.exec(plain) ?? [];
  if (agentId === undefined) return undefined;
  return { agentId, kind: what === 'certificate' ? 'certificate' : 'revocation' };
}
export const indexObject = (sessionId: SessionId, sequence: number): string =>
  `${INDEX}${sessionId}-${String(sequence).padStart(6, '0')}`;

/** Every name that stands before a tag. Who holds the keys that agents share can compute tags of other names as well: those are nobody's. */
const RECORD = ((): RegExp => {
  const id = '[a-z0-9][a-z0-9-]{0,62}';
  const point = 'p[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}';
  const number = '[0-9]{8}';
  const names = [
    `${SESSIONS}${id}/(open|closed)`,
    `${FENCES}${id}`,
    `${OUTCOMES}${id}`,
    `${TOMBSTONES}${id}/${point}`,
    `(${CONDEMN_LISTS}|${CONDEMN_SWEPT}|${LEDGER})${number}`,
    `${CONDEMN_PARTS}[0-9a-f]{32}/(packs|points|pruned)-[0-9]{6,}`,
    `${DAMAGE}${id}/(open|closed)`,
    `${VERIFIED}${id}`,
    `(${CHAINS}|${EVIDENCE})${id}/${number}`,
    `${AGENTS}[0-9a-f]{32}/(certificate|revoked-[0-9a-f]{16})`,
    `${OBJECTS}${id}/${id}/${number}`,
    `${RELOCATIONS}[0-9a-f]{2}/[0-9a-f]{64}/${id}`,
  ];
  return new RegExp(`^(${names.join('|')})$`);
})();

/** Whether a writer of ours gives this name to a record, before its tag. */
export const isRecordName = (plain: string): boolean => RECORD.test(plain);

/** What the parts of a condemn list hold: names of packs, points that were valid, points that were pruned. */
export type CondemnPartKind = 'packs' | 'points' | 'pruned';

const eightDigits = (number: number): string => String(number).padStart(8, '0');

/** The pack an object holds by its name, or undefined for a stranger. */
export function packOfObject(object: string): PackName | undefined {
  const name = object.slice(object.lastIndexOf('/') + 1);
  return HASH.test(name) && object === packObject(name as PackName) ? (name as PackName) : undefined;
}

/** The point an object is by its name, or undefined for a stranger: no writer gives such a name, and no reader opens it. */
export function pointOfObject(object: string): { machineId: MachineId; pointId: PointId } | undefined {
  const [machine = '', point = ''] = object.slice(POINTS.length).split('/');
  try {
    const key = { machineId: parseMachineId(machine), pointId: parsePointId(point) };
    return object === pointObject(key.machineId, key.pointId) ? key : undefined;
  } catch (error) {
    if (!hasCode(error, 'input.invalid')) throw error;
    return undefined;
  }
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/** 32 bytes of a chunk id or pack name. */
export function hashBytes(name: ChunkId | PackName): Buffer {
  return Buffer.from(name, 'hex');
}
