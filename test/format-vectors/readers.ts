/** How each type is read, to a value that JSON can hold: the one table of them. A type without a line here does not compile. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseMachineId, parsePointId } from '@lifeboat/foundation/ids';
import { decodeAgentCredential } from '@lifeboat/repository/format/agent-credential';
import { decodeCondemnHead, decodeCondemnPart, decodeCondemnSwept } from '@lifeboat/repository/format/condemn-list';
import type { Core } from '@lifeboat/repository/core';
import { decodeChainLink } from '@lifeboat/repository/format/chain-link';
import { decodeControlVersion, type ControlVersion } from '@lifeboat/repository/format/control-object';
import { decodeClosing, decodeReport, decodeReportedBlobs } from '@lifeboat/repository/format/damage-report';
import { damaged, type ObjectType } from '@lifeboat/repository/format/frame';
import { decodeIndexEntries, decodeIndexEnvelope } from '@lifeboat/repository/format/index-segment';
import { decodeKeySet } from '@lifeboat/repository/format/key-set';
import { decodeLedgerEntry } from '@lifeboat/repository/format/ledger-entry';
import { decodeMapPage } from '@lifeboat/repository/format/map-page';
import { chunkIdOf, relocationIdOf, type PackName } from '@lifeboat/repository/format/names';
import { decodePackSetPage } from '@lifeboat/repository/format/pack-set-page';
import { decodePackHeader, hashSealed, kindOf, parsePack } from '@lifeboat/repository/format/pack';
import { decodePointKeys } from '@lifeboat/repository/format/point-keys';
import { decodeRevocation } from '@lifeboat/repository/format/revocation';
import { decodeFence, decodeOutcome } from '@lifeboat/repository/format/session-outcome';
import { decodeSessionRecord } from '@lifeboat/repository/format/session-record';
import type { SignedType } from '@lifeboat/repository/format/signed-record';
import { decodeSuperblock, type Geometry } from '@lifeboat/repository/format/superblock';
import { decodeTombstone } from '@lifeboat/repository/format/tombstone';
import { openEvidence } from '@lifeboat/repository/evidence/chain';
import { decodeVerification } from '@lifeboat/repository/format/verification';
import { openPoint } from '@lifeboat/repository/read/point-reader';
import { openRelocation } from '@lifeboat/repository/read/relocations';
import { open } from '@lifeboat/repository/seal/aead';
import { openBlob, openToc, packKey } from '@lifeboat/repository/seal/blob-seal';
import { zstd } from '@lifeboat/repository/seal/codec';
import { openCertificate } from '@lifeboat/repository/seal/certificate';
import { openRecord, openSessionRecord } from '@lifeboat/repository/seal/control-records';
import { damageSeal } from '@lifeboat/repository/seal/damage-seal';
import { deriveKey } from '@lifeboat/repository/seal/derive';
import { openKeySet } from '@lifeboat/repository/seal/key-set';
import { openSlot } from '@lifeboat/repository/seal/key-slot';
import { objectSeal } from '@lifeboat/repository/seal/object-seal';
import { kindOfSlot, type SecretBytes } from '@lifeboat/repository/seal/secret';
import { SessionFiles } from '@lifeboat/repository/write/session-files';

/** What opens the objects of one tenant. */
export interface Opened {
  readonly core: Core;
  readonly superblockHash: Uint8Array;
  readonly secrets: readonly SecretBytes[];
}

type Reader = (bytes: Uint8Array, name: string, opened: Opened) => unknown;

export const READERS: Readonly<Record<ObjectType, Reader>> = {
  REPO: (bytes, name) => decodeSuperblock(bytes, name),
  KEYS: readKeySet,
  PACK: readPack,
  PONT: (bytes, name, { core }) => {
    const [machineId = '', pointId = ''] = name.split('/').slice(-2);
    return openPoint(core, bytes, { machineId: parseMachineId(machineId), pointId: parsePointId(pointId) });
  },
  RELO: (bytes, name, { core }) => {
    const pack = name.split('/').at(-2) as PackName;
    return openRelocation(core, bytes, { pack, relocationId: relocationIdOf(name) }, name);
  },
  SESS: (object, stored, { core }) => {
    const name = amongOwn(stored);
    const { body, author } = openSessionRecord(core, { name, object });
    const record = decodeSessionRecord(body, name);
    return author === 'tenant' ? record : { ...record, agent: author.name };
  },
  CERT: (bytes, name, { core }) => openCertificate(core.keyring, bytes, name),
  REVO: (bytes, name) => decodeRevocation(bytes, name),
  AGNT: (bytes, name) => decodeAgentCredential(bytes, name),
  PKEY: (bytes, name) => decodePointKeys(bytes, name),
  INDX: (bytes, name, { core }) => {
    const { tenantId, salt, sealed } = decodeIndexEnvelope(bytes, name);
    const key = deriveKey(core.keyring.indexKey, 'index segment', salt);
    const plain = open({ key, counter: 0, additionalData: tenantId }, sealed);
    if (!plain) throw damaged(name, 'its seal does not open');
    return { tenantId, salt, entries: decodeIndexEntries(plain, name) };
  },
  DMGR: (bytes, name, { core }) => {
    const report = decodeReport(openRecord(core, { type: 'DMGR', name, object: bytes }), name);
    const { tenantId, indexKey } = core.keyring;
    const reportId = name.split('/').at(-2) ?? '';
    const plain = open(damageSeal(indexKey, { tenantId, reportId, salt: report.salt }), report.sealed);
    if (!plain) throw damaged(name, 'its seal does not open');
    return { report, blobs: decodeReportedBlobs(plain, name) };
  },
  DMGC: (bytes, name, { core }) => decodeClosing(openRecord(core, { type: 'DMGC', name, object: bytes }), name),
  RETN: (bytes, name) => decodeLedgerEntry(bytes, name),
  CTRL: (bytes, name, opened) => {
    const { keyring } = opened.core;
    const read = signed('CTRL', decodeControlVersion)(bytes, name, opened) as ControlVersion;
    const sealing = objectSeal(keyring.objectKey(read), { ...read, tenantId: keyring.tenantId });
    const payload = read.sealed && open(sealing, read.sealed);
    if (read.sealed && !payload) throw damaged(name, 'its seal does not open');
    return { ...read, payload };
  },
  LINK: signed('LINK', decodeChainLink),
  EVID: (object, name, { core }) => {
    const [machine = '', file = ''] = name.split('/').slice(-2);
    const at = { machineId: parseMachineId(machine), number: Number(file.slice(0, 8)) };
    return openEvidence(core, at, { name, object });
  },
  VRFY: signed('VRFY', decodeVerification),
  FENC: signed('FENC', decodeFence),
  OUTC: (bytes, name) => decodeOutcome(bytes, name),
  TOMB: (bytes, name) => decodeTombstone(bytes, name),
  CLST: signed('CLST', decodeCondemnHead),
  CPRT: signed('CPRT', decodeCondemnPart),
  CSWP: signed('CSWP', decodeCondemnSwept),
  SKEY: (bytes, name, opened) => withSessionFile(bytes, name, opened, (files) => files.readKey()),
  JRNL: (bytes, name, opened) =>
    withSessionFile(bytes, name, opened, async (files) => {
      const [, pointId] = /\/point-(.*)$/.exec(name) ?? [];
      if (pointId !== undefined) return files.readIntent(parsePointId(pointId));
      const packs: unknown[] = [];
      for await (const pack of files.openJournal()) packs.push(pack);
      await files.close();
      return packs;
    }),
};

/** A record with a tagged name; it is signed for its name among the tenant's own. */
function signed(type: SignedType, decode: (body: Uint8Array, what: string) => unknown): Reader {
  return (object, stored, { core }) => {
    const name = amongOwn(stored);
    return decode(openRecord(core, { type, name, object }), name);
  };
}

const amongOwn = (stored: string): string => stored.replace(/^(control|data)\/tenants\/[0-9a-f]{32}\//, '$1/');

/** The set, and for each of the secrets what it opens. */
async function readKeySet(bytes: Uint8Array, name: string, opened: Opened): Promise<unknown> {
  const set = decodeKeySet(bytes, name);
  const binding = { superblockHash: opened.superblockHash, tenantId: set.tenantId };
  const ways: unknown[] = [];
  for (const secret of opened.secrets) {
    for (const slot of set.slots) {
      const inside = await openSlot(slot, { secret, binding });
      if (typeof inside === 'string') continue;
      ways.push({ kind: kindOfSlot(slot), ...inside, bundle: openKeySet(set, { ...inside, binding, what: name }) });
    }
  }
  return { set, ways };
}

/** Header, tables and every blob: chunks as they are, pages as what they say. */
function readPack(bytes: Uint8Array, name: string, { core }: Opened): unknown {
  const { keyring, superblock } = core;
  const { header } = decodePackHeader(bytes, name);
  const layout = parsePack(bytes, name);
  const kind = kindOf(header);
  const baseKey = keyring.baseKeyOf(header);
  if (!kind || !baseKey) throw damaged(name, 'it is not for this tenant');
  const pack = { key: packKey(baseKey, header.salt), kind, tenantId: keyring.tenantId };
  const toc = openToc(pack, layout.sealedToc, name);
  const blobs = layout.blobs.map(({ slot, offsetBytes, lengthBytes, hash }) => {
    const sealed = bytes.subarray(offsetBytes, offsetBytes + lengthBytes);
    if (Buffer.compare(hashSealed(sealed), hash) !== 0) throw damaged(name, `blob ${slot} does not have its hash`);
    const id = chunkIdOf(toc.ids.subarray(slot * 32, slot * 32 + 32));
    const plain = { exactBytes: toc.plainBytes[slot] ?? 0 };
    const blob = openBlob({ ...pack, chunkIdKey: keyring.chunkIdKey, id, slot, plain }, sealed, zstd(1));
    if ('failure' in blob) throw damaged(name, `blob ${slot}: ${blob.failure}`);
    const content = kind === 'data' ? blob.plain : page(kind, blob.plain, { self: layout.name, geometry: superblock });
    return { slot, offsetBytes, lengthBytes, codec: toc.codecs[slot], id, content };
  });
  return { name: layout.name, header, blobs };
}

/** A page says where in its tree it is, and is only read by who expects it there: so all places are tried. */
function page(kind: 'map' | 'set', plain: Uint8Array, at: { self: PackName; geometry: Geometry }): unknown {
  const refusals: unknown[] = [];
  for (let level = 0; level < 4; level++) {
    for (let index = 0; index < 8; index++) {
      try {
        return kind === 'set'
          ? decodePackSetPage(plain, { depth: level, ...at, what: 'a page' })
          : decodeMapPage(plain, { level, index, ...at, what: 'a page' });
      } catch (error) {
        refusals.push(error);
      }
    }
  }
  throw refusals[0];
}

async function withSessionFile<T>(
  bytes: Uint8Array,
  name: string,
  { core }: Opened,
  body: (files: SessionFiles) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'lifeboat-vectors-'));
  try {
    writeFileSync(join(directory, basename(name)), bytes);
    return await body(
      new SessionFiles({ directory, tenantId: core.keyring.tenantId, machineId: parseMachineId('web') }),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Bytes as hexadecimal, nothing where nothing is: what `expected.json` can hold. */
export function asJson(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.map(asJson);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, part]) => part !== undefined)
      .map(([key, part]) => [key, asJson(part)]),
  );
}
