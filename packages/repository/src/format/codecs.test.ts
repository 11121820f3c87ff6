import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { hasCode } from '@lifeboat/foundation/errors';

import { decodeAgentCredential, encodeAgentCredential } from './agent-credential.ts';
import { refFromBytes, refToBytes, sameRef, SELF, type BlobRef, type Place } from './blob-ref.ts';
import { decodeCertificate, encodeCertificate, encodeCertificateBody } from './certificate.ts';
import {
  decodeCondemnHead,
  decodeCondemnPart,
  decodeCondemnSwept,
  encodeCondemnHead,
  encodeCondemnPart,
  encodeCondemnSwept,
} from './condemn-list.ts';
import type { RetentionPolicy } from '../retention/policy.ts';
import { openRecord, sealRecord } from '../seal/control-records.ts';
import { TenantKeyring } from '../seal/keyring.ts';
import { decodeChainLink, encodeChainLink } from './chain-link.ts';
import { decodeControlVersion, encodeControlVersion } from './control-object.ts';
import {
  decodeEvidence,
  decodeEvidenceEnvelope,
  encodeEvidence,
  encodeEvidenceEnvelope,
  PROOF_LEVELS,
} from './evidence.ts';
import { decodeFrame, encodeFrame, expectPrefix } from './frame.ts';
import { decodeIndexEntries, decodeIndexEnvelope, encodeIndexEntries, encodeIndexEnvelope } from './index-segment.ts';
import { decodeKeyBundle, decodeKeySet, encodeKeyBundle, encodeKeySet, encodeKeySetBody } from './key-set.ts';
import { FORMAT_VERSION } from './limits.ts';
import { decodeLedgerEntry, encodeLedgerBody, encodeLedgerEntry, type Act, type Step } from './ledger-entry.ts';
import { decodeMapPage, encodeMapPage, rootLevel } from './map-page.ts';
import { chunkIdOf, hashBytes, hex, packNameOf, packObject, packOfObject } from './names.ts';
import { decodePackSetPage, encodePackSetPage } from './pack-set-page.ts';
import { decodePackHeader, encodePackHeader } from './pack.ts';
import { decodePointBody, decodePointObject, encodePointBody, encodePointHeader, encodePointObject } from './point.ts';
import {
  decodeMoved,
  decodeRelocation,
  encodeMoved,
  encodeRelocation,
  encodeRelocationStatement,
} from './relocation.ts';
import { decodeRevocation, encodeAcceptedPoints, encodeRevocation, encodeRevocationBody } from './revocation.ts';
import { decodePointKeys, encodePointKeys } from './point-keys.ts';
import {
  decodeReport,
  decodeReportedBlobs,
  encodeReport,
  encodeReportedBlobs,
  encodeReportedPacks,
  reportedPacks,
} from './damage-report.ts';
import { decodeFence, decodeOutcome, encodeFence, encodeOutcome, encodeOutcomeBody } from './session-outcome.ts';
import { decodeTombstone, encodeTombstone, encodeTombstoneBody } from './tombstone.ts';
import { decodeSessionRecord, encodeSessionRecord } from './session-record.ts';
import { decodeSigned, encodeSigned, type SignedType } from './signed-record.ts';
import { decodeSuperblock, encodeSuperblock } from './superblock.ts';
import { CHECK_LEVELS, decodeVerification, encodeVerification, VERIFIED_NAME_BYTES } from './verification.ts';
import { list, message, optional, text, uint, uints } from './wire.ts';

const sized = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const hash = sized(32);
const ref: fc.Arbitrary<BlobRef> = fc.record({
  id: hash.map(chunkIdOf),
  pack: hash.map(packNameOf),
  slot: fc.integer({ min: 0, max: 16_383 }),
  offsetBytes: fc.integer({ min: 0, max: 2 ** 26 }),
  lengthBytes: fc.integer({ min: 17, max: 2 ** 22 }),
});
const place: fc.Arbitrary<Place> = fc.oneof(fc.constant('hole' as const), fc.constant('zero' as const), ref);
const self = packNameOf(Buffer.alloc(32, 7));
const geometry = { leafEntries: 8, branchEntries: 4, packSetEntries: 4 };

/** A codec as this test sees it. `hashed`: the bytes carry their own hash, so every flipped bit must be refused. */
interface Codec {
  readonly name: string;
  readonly value: fc.Arbitrary<unknown>;
  readonly encode: (value: never) => Uint8Array;
  readonly decode: (encoded: Uint8Array) => unknown;
  readonly hashed: boolean;
}

const codec = <T>(
  name: string,
  hashed: boolean,
  value: fc.Arbitrary<T>,
  encode: (value: T) => Uint8Array,
  decode: (encoded: Uint8Array) => T,
): Codec => ({ name, hashed, value, encode, decode });

const keyring = new TenantKeyring({
  tenantId: Buffer.alloc(16, 1),
  epochs: [{ epoch: 1, sessionPrivateKey: Buffer.alloc(32, 2) }],
  chunkIdKey: Buffer.alloc(32, 3),
  machineRootKey: Buffer.alloc(32, 4),
  signingSeed: Buffer.alloc(32, 5),
});
const signed = (type: SignedType, body: Uint8Array): Uint8Array => sealRecord({ keyring }, { type, name: 'it', body });
const opened = (type: SignedType, object: Uint8Array): Uint8Array =>
  openRecord({ keyring }, { type, name: 'it', object });

const scrypt = fc.record({
  salt: hash,
  cost: fc.constantFrom(2, 1024, 65_536),
  blockSize: fc.integer({ min: 1, max: 8 }),
  parallelization: fc.integer({ min: 1, max: 16 }),
});

const json = fc.jsonValue({ maxDepth: 2 }).map((value) => JSON.parse(JSON.stringify(value)) as null);

const shortText = fc.string({ maxLength: 9 });
const rules = fc.record({
  ...Object.fromEntries(
    ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'].map((rule) => [rule, fc.nat(100_000)]),
  ),
  zone: shortText,
}) as fc.Arbitrary<RetentionPolicy>;
const act: fc.Arbitrary<Act> = fc.oneof(
  fc.record({ kind: fc.constant('policy' as const), machineId: shortText, policy: rules }, { requiredKeys: ['kind'] }),
  fc.record(
    { kind: fc.constant('hold' as const), machineId: shortText, pointId: shortText },
    { requiredKeys: ['kind', 'machineId'] },
  ),
  fc.record({
    kind: fc.constant('guard' as const),
    guard: fc.record({ fourEyes: fc.boolean(), delayMs: fc.nat(365 * 86_400_000) }),
  }),
  fc.record({ kind: fc.constant('lift' as const), hold: fc.nat(99_999_999) }),
  fc.record({ kind: fc.constant('prune' as const), machineId: shortText, pointId: shortText }),
  fc.constant({ kind: 'delete-tenant' as const }),
  fc.record({ kind: fc.constant('write-off' as const), entry: fc.nat(99_999_999) }),
  fc.record({ kind: fc.constant('write-off-link' as const), machineId: shortText, link: fc.nat(99_999_999) }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constantFrom('act' as const, 'request' as const), act }),
  fc.record({
    kind: fc.constantFrom('approval' as const, 'withdrawal' as const, 'done' as const),
    request: fc.nat(99_999_999),
  }),
);

const anyHeader = encodePointHeader({
  tenantId: Buffer.alloc(16, 1),
  machineId: 'machine',
  pointId: 'point',
  sessionId: 'session',
  createdMs: 1,
  previous: undefined,
  salt: Buffer.alloc(32, 2),
  bodyHash: Buffer.alloc(32, 3),
  signer: Buffer.alloc(32, 4),
});

/** In the order of a damage report. */
const reported = (minLength: number): fc.Arbitrary<BlobRef[]> =>
  fc
    .uniqueArray(ref, { selector: ({ pack, slot }) => `${pack} ${slot}`, minLength, maxLength: 9 })
    .map((refs) => refs.toSorted((a, b) => (a.pack === b.pack ? a.slot - b.slot : a.pack < b.pack ? -1 : 1)));

const codecs: readonly Codec[] = [
  codec(
    'entry of the retention ledger',
    true,
    fc.record({
      tenantId: sized(16),
      number: fc.nat(99_999_999),
      signedMs: fc.maxSafeNat(),
      slotId: sized(8),
      slotLabel: shortText,
      reason: shortText,
      step,
      signer: hash,
    }),
    (entry) => encodeLedgerEntry({ body: encodeLedgerBody(entry), signature: Buffer.alloc(64, 1) }),
    (encoded) => decodeLedgerEntry(encoded, 'it').entry,
  ),
  codec(
    'superblock',
    true,
    fc.record({
      repositoryId: sized(16),
      tenantId: sized(16),
      createdMs: fc.maxSafeNat(),
      chunkSizeBytes: fc.constantFrom(64, 65_536, 1_048_576),
      leafEntries: fc.constantFrom(1, 64),
      branchEntries: fc.constantFrom(2, 64),
      packSetEntries: fc.integer({ min: 1, max: 4096 }),
      capabilities: fc.integer({ min: 0, max: 15 }),
    }),
    encodeSuperblock,
    (encoded) => decodeSuperblock(encoded, 'it'),
  ),
  codec(
    'key set',
    true,
    fc.record({
      tenantId: sized(16),
      tenantName: fc.string({ maxLength: 15 }),
      generation: fc.nat(999_999),
      createdMs: fc.maxSafeNat(),
      epoch: fc.nat(),
      sessionPublicKey: hash,
      slots: fc.array(
        fc.record({
          slotId: sized(8),
          label: fc.string({ maxLength: 30 }),
          createdMs: fc.maxSafeNat(),
          scrypt: fc.option(scrypt, { nil: undefined }),
          kms: fc.constant(undefined),
          paper: fc.constant(undefined),
          salt: hash,
          check: sized(16),
          publicKey: hash,
          sealedAnchor: sized(48),
          sealedSetKey: sized(80),
        }),
        { maxLength: 3 },
      ),
      sealedBundle: sized(200),
    }),
    (body) => encodeKeySet({ body: encodeKeySetBody(body), signature: Buffer.alloc(64, 7) }),
    (encoded) => {
      const { bodyBytes: _bytes, signature: _signature, ...body } = decodeKeySet(encoded, 'it');
      return body as never;
    },
  ),
  codec(
    'session record',
    true,
    fc.record({
      sessionId: fc.string({ maxLength: 20 }),
      machineId: fc.string({ maxLength: 20 }),
      instantMs: fc.maxSafeNat(),
      event: fc.constantFrom('open' as const, 'committed' as const, 'abandoned' as const),
      pointId: fc.string({ maxLength: 20 }),
      knownLists: fc.nat(3).chain((n) => sized(n * 16)),
      closing: hash,
    }),
    (record) => signed('SESS', encodeSessionRecord(record)),
    (encoded) => decodeSessionRecord(opened('SESS', encoded), 'it') as never,
  ),
  codec(
    'version of a control object',
    true,
    fc
      .record({
        kind: shortText,
        id: shortText,
        version: fc.integer({ min: 1, max: 99_999_999 }),
        follows: fc.option(hash, { nil: undefined }),
        writtenMs: fc.maxSafeNat(),
        schema: shortText,
        salt: hash,
        sealed: fc.option(fc.uint8Array({ maxLength: 99 }), { nil: undefined }),
      })
      .map(({ follows, ...version }) => ({
        ...version,
        previous: follows && version.version > 1 ? { version: version.version - 1, hash: follows } : undefined,
      })),
    (version) => signed('CTRL', encodeControlVersion(version)),
    (encoded) => decodeControlVersion(opened('CTRL', encoded), 'it') as never,
  ),
  codec(
    'link of a chain',
    true,
    fc
      .record({
        machineId: shortText,
        number: fc.integer({ min: 1, max: 99_999_999 }),
        goesOn: fc.boolean(),
        hash,
        points: fc.array(fc.record({ pointId: shortText, hash }), { minLength: 1, maxLength: 64 }),
        linkedMs: fc.maxSafeNat(),
      })
      .map(({ goesOn, hash: before, ...link }) => {
        const previous = link.number > 1 ? { number: link.number - 1, hash: before } : undefined;
        return { ...link, previous, first: goesOn && previous ? previous.number : link.number };
      }),
    (link) => signed('LINK', encodeChainLink(link)),
    (encoded) => decodeChainLink(opened('LINK', encoded), 'it') as never,
  ),
  codec(
    'fence',
    true,
    fc.record({ sessionId: fc.string({ maxLength: 20 }), fencedMs: fc.maxSafeNat() }),
    (record) => signed('FENC', encodeFence(record)),
    (encoded) => decodeFence(opened('FENC', encoded), 'it'),
  ),
  codec(
    'session outcome',
    true,
    fc.record({
      tenantId: sized(16),
      sessionId: fc.string({ maxLength: 20 }),
      pointId: fc.string({ maxLength: 20 }),
      decidedMs: fc.maxSafeNat(),
      signer: hash,
    }),
    (outcome) => encodeOutcome({ body: encodeOutcomeBody(outcome), signature: Buffer.alloc(64, 1) }),
    (encoded) => decodeOutcome(encoded, 'it').outcome,
  ),
  codec(
    'tombstone',
    true,
    fc.record({
      tenantId: sized(16),
      machineId: fc.string({ maxLength: 20 }),
      pointId: fc.string({ maxLength: 20 }),
      pointHash: hash,
      prunedMs: fc.maxSafeNat(),
      by: fc.string({ maxLength: 20 }),
      reason: fc.string({ maxLength: 20 }),
      signer: hash,
    }),
    (tombstone) => encodeTombstone({ body: encodeTombstoneBody(tombstone), signature: Buffer.alloc(64, 1) }),
    (encoded) => decodeTombstone(encoded, 'it').tombstone,
  ),
  codec(
    'place of a record of evidence',
    true,
    fc.record({
      machineId: fc.string({ maxLength: 20 }),
      number: fc.integer({ min: 2, max: 99_999_999 }),
      previous: fc.option(fc.record({ number: fc.constant<number>(1), hash }), { nil: undefined }),
      salt: hash,
      sealed: fc.uint8Array({ maxLength: 100 }).map((bytes): Uint8Array => bytes),
    }),
    (record) => signed('EVID', encodeEvidenceEnvelope(record)),
    (encoded) => decodeEvidenceEnvelope(opened('EVID', encoded), 'it'),
  ),
  codec(
    'evidence',
    false,
    fc.record({
      operation: fc.string({ maxLength: 9 }),
      operationId: fc.string({ maxLength: 9 }),
      hostId: fc.string({ maxLength: 9 }),
      beganMs: fc.maxSafeNat(),
      endedMs: fc.maxSafeNat(),
      readBytes: fc.maxSafeNat(),
      claims: fc.array(
        fc.record({
          pointId: fc.string({ maxLength: 9 }),
          level: fc.constantFrom(...PROOF_LEVELS),
          result: fc.constantFrom('proven' as const, 'failed' as const),
          disks: fc.array(fc.string({ maxLength: 9 }), { maxLength: 3 }),
          reason: fc.string({ maxLength: 9 }),
        }),
        { maxLength: 5 },
      ),
      artefacts: fc.array(fc.record({ name: fc.string({ maxLength: 9 }), sizeBytes: fc.maxSafeNat(), sha256: hash }), {
        maxLength: 3,
      }),
      hardware: fc.string({ maxLength: 9 }),
      summary: fc.string({ maxLength: 9 }),
    }),
    encodeEvidence,
    (encoded) => decodeEvidence(encoded, 'it'),
  ),
  codec(
    'verification',
    true,
    fc.record({
      sinceMs: fc.maxSafeNat(),
      level: fc.constantFrom(...CHECK_LEVELS),
      packs: fc
        .uniqueArray(sized(VERIFIED_NAME_BYTES), { minLength: 1, maxLength: 5, selector: (name) => name.toString() })
        .map((names) => Uint8Array.from(Buffer.concat(names.toSorted((a, b) => Buffer.compare(a, b)))) as Uint8Array),
    }),
    (record) => signed('VRFY', encodeVerification(record)),
    (encoded) => decodeVerification(opened('VRFY', encoded), 'it'),
  ),
  codec(
    'head of a condemn list',
    true,
    fc.record({
      tenantId: sized(16),
      number: fc.nat(99_999_999),
      listId: sized(16),
      publishedMs: fc.maxSafeNat(),
      packCount: fc.maxSafeNat(),
      packBytes: fc.maxSafeNat(),
      packParts: fc.nat(4096),
      pointParts: fc.nat(4096),
      prunedParts: fc.nat(4096),
    }),
    (record) => signed('CLST', encodeCondemnHead(record)),
    (encoded) => decodeCondemnHead(opened('CLST', encoded), 'it'),
  ),
  codec(
    'part of a condemn list',
    true,
    fc.record({
      packs: fc.array(hash.map(packNameOf), { maxLength: 5 }),
      points: fc.array(fc.record({ machineId: fc.string({ maxLength: 9 }), pointId: fc.string({ maxLength: 9 }) }), {
        maxLength: 5,
      }),
    }),
    ({ packs, points }) => signed('CPRT', encodeCondemnPart({ packs: Buffer.concat(packs.map(hashBytes)), points })),
    (encoded) => decodeCondemnPart(opened('CPRT', encoded), 'it') as never,
  ),
  codec(
    'mark of a swept list',
    true,
    fc.record({ listId: sized(16), sweptMs: fc.maxSafeNat(), deletedPacks: fc.maxSafeNat() }),
    (record) => signed('CSWP', encodeCondemnSwept(record)),
    (encoded) => decodeCondemnSwept(opened('CSWP', encoded), 'it'),
  ),
  codec(
    'index envelope',
    true,
    fc.record({ tenantId: sized(16), salt: hash, sealed: fc.uint8Array({ maxLength: 100 }) }),
    encodeIndexEnvelope,
    (encoded) => decodeIndexEnvelope(encoded, 'it'),
  ),
  codec(
    'point object',
    true,
    fc.record({
      tenantId: sized(16),
      machineId: fc.string({ maxLength: 20 }),
      pointId: fc.string({ maxLength: 20 }),
      sessionId: fc.string({ maxLength: 20 }),
      createdMs: fc.maxSafeNat(),
      previous: fc.option(fc.record({ pointId: fc.string({ maxLength: 9 }), hash }), { nil: undefined }),
      salt: hash,
      bodyHash: hash,
      signer: hash,
    }),
    (header) =>
      encodePointObject({
        header: encodePointHeader(header),
        signature: Buffer.alloc(64, 1),
        sealedBody: Buffer.from('sealed'),
      }),
    (encoded) => decodePointObject(encoded, 'it').header,
  ),
  codec(
    'point object of an agent',
    true,
    fc.record({ sealedBody: fc.uint8Array({ maxLength: 99 }), certificate: fc.uint8Array({ maxLength: 99 }) }),
    (envelope) => encodePointObject({ header: anyHeader, signature: Buffer.alloc(64, 1), ...envelope }),
    (encoded) => {
      const { sealedBody, certificate = new Uint8Array() } = decodePointObject(encoded, 'it');
      return { sealedBody, certificate } as never;
    },
  ),
  codec(
    'session record of an agent',
    true,
    fc.record({ body: fc.uint8Array({ maxLength: 99 }), signer: hash, signature: sized(64), certificate: hash }),
    (record) => encodeSigned('SESS', record),
    (encoded) => decodeSigned('SESS', encoded, 'it') as never,
  ),
  codec(
    'certificate',
    true,
    fc.record({
      tenantId: sized(16),
      agentId: sized(16),
      name: shortText,
      publicKey: hash,
      machines: fc
        .uniqueArray(fc.stringMatching(/^[a-z0-9]{1,9}$/), { minLength: 1, maxLength: 4 })
        .map((ids) => ids.toSorted().map((machineId) => ({ machineId }))),
      capabilities: fc.nat(0xffff_ffff),
      notBeforeMs: fc.maxSafeNat(),
      notAfterMs: fc.maxSafeNat(),
      issuedBy: shortText,
    }),
    (body) => encodeCertificate({ body: encodeCertificateBody(body), signature: Buffer.alloc(64, 1) }),
    (encoded) => decodeCertificate(encoded, 'it').certificate as never,
  ),
  codec(
    'revocation',
    true,
    fc.record({
      tenantId: sized(16),
      agentId: sized(16),
      revokedMs: fc.maxSafeNat(),
      by: shortText,
      reason: shortText,
      points: fc
        .uniqueArray(sized(32), { maxLength: 4, selector: hex })
        .map((hashes) => Uint8Array.from(encodeAcceptedPoints(new Set(hashes.map(hex))))),
    }),
    (body) => encodeRevocation({ body: encodeRevocationBody(body), signature: Buffer.alloc(64, 1) }),
    (encoded) => decodeRevocation(encoded, 'it').revocation as never,
  ),
  codec(
    'credential of an agent',
    true,
    fc.record({
      superblockHash: hash,
      tenantId: sized(16),
      signer: hash,
      epoch: fc.nat(0xffff_ffff),
      sessionPublicKey: hash,
      chunkIdKey: hash,
      machines: fc.array(fc.record({ machineId: shortText, key: hash }), { minLength: 1, maxLength: 3 }),
      signingSeed: hash,
      certificate: fc.uint8Array({ maxLength: 99 }),
    }),
    encodeAgentCredential,
    (encoded) => decodeAgentCredential(encoded, 'it'),
  ),
  codec(
    'keys of points',
    true,
    fc.record({
      superblockHash: hash,
      tenantId: sized(16),
      signer: hash,
      chunkIdKey: hash,
      points: fc.array(fc.record({ machineId: shortText, pointId: shortText, key: hash }), { maxLength: 3 }),
      packs: fc.constant(Uint8Array.from({ length: 64 }, (_, i) => i)),
      packKeys: sized(64),
    }),
    encodePointKeys,
    (encoded) => decodePointKeys(encoded, 'it') as never,
  ),
  codec(
    'relocation',
    true,
    fc.record({
      tenantId: sized(16),
      pack: hash,
      relocationId: fc.string({ maxLength: 9 }),
      createdMs: fc.maxSafeNat(),
      reason: fc.constantFrom<string>('healed', 'compacted'),
      targets: fc.array(fc.record({ pack: hash, sizeBytes: fc.nat(2 ** 26) }), { maxLength: 3 }),
      salt: hash,
      sealed: fc.uint8Array({ maxLength: 100 }),
      signer: hash,
    }),
    (statement) =>
      encodeRelocation({ statement: encodeRelocationStatement(statement), signature: Buffer.alloc(64, 1) }),
    (encoded) => decodeRelocation(encoded, 'it').statement as never,
  ),
  codec(
    'moved blobs',
    false,
    fc
      .uniqueArray(ref, { selector: ({ id }) => id, minLength: 1, maxLength: 9 })
      .map((refs) => refs.toSorted((a, b) => (a.id < b.id ? -1 : 1))),
    (refs) => encodeMoved(refs),
    (encoded) => decodeMoved(encoded, 'it').places as never,
  ),
  codec(
    'moved blobs with their slots',
    false,
    fc
      .uniqueArray(fc.tuple(ref, fc.nat(16_383)), { selector: ([{ id }]) => id, minLength: 1, maxLength: 9 })
      .map((moved) => moved.toSorted(([a], [b]) => (a.id < b.id ? -1 : 1))),
    (moved) =>
      encodeMoved(
        moved.map(([place]) => place),
        new Map(moved.map(([{ id }, slot]) => [id, slot])),
      ),
    (encoded) => {
      const { places, slots } = decodeMoved(encoded, 'it');
      return places.map((place, i) => [place, slots[i]]) as never;
    },
  ),
  codec(
    'damage report',
    true,
    fc.record({
      reportedMs: fc.maxSafeNat(),
      packs: fc.uint8Array({ maxLength: 96 }),
      salt: hash,
      sealed: fc.uint8Array({ maxLength: 100 }),
    }),
    (report) => signed('DMGR', encodeReport(report)),
    (encoded) => decodeReport(opened('DMGR', encoded), 'it') as never,
  ),
  codec(
    'reported blobs',
    false,
    fc.record({ chunks: reported(1), pages: reported(0) }),
    encodeReportedBlobs,
    (encoded) => decodeReportedBlobs(encoded, 'it'),
  ),
  codec(
    'key bundle',
    false,
    fc.record({
      tenantId: sized(16),
      epochs: fc
        .uniqueArray(fc.record({ epoch: fc.integer({ min: 1, max: 2 ** 31 }), sessionPrivateKey: hash }), {
          selector: ({ epoch }) => epoch,
          minLength: 1,
          maxLength: 3,
        })
        .map((epochs) => epochs.toSorted((a, b) => a.epoch - b.epoch)),
      chunkIdKey: hash,
      machineRootKey: hash,
      signingSeed: hash,
    }),
    encodeKeyBundle,
    (encoded) => decodeKeyBundle(encoded, 'it'),
  ),
  codec('blob reference', false, ref, refToBytes, (encoded) => refFromBytes(encoded, 'it')),
  codec(
    'map page',
    false,
    fc.array(place, { minLength: 8, maxLength: 8 }).map((places) => ({ level: 0, index: 5, places })),
    encodeMapPage,
    (encoded) => ({ ...decodeMapPage(encoded, { level: 0, index: 5, self, geometry, what: 'it' }) }) as never,
  ),
  codec(
    'pack-set leaf',
    false,
    fc
      .uniqueArray(fc.record({ pack: hash.map(packNameOf), references: fc.nat(), sizeBytes: fc.nat(2 ** 26) }), {
        selector: (use) => use.pack,
        maxLength: 6,
      })
      .map((packs) => ({
        kind: 'leaf' as const,
        depth: 2,
        packs: packs.toSorted((a, b) => (a.pack < b.pack ? -1 : 1)),
      })),
    encodePackSetPage,
    (encoded) => decodePackSetPage(encoded, { depth: 2, self, what: 'it' }) as never,
  ),
  codec(
    'pack-set branch',
    false,
    fc.record({
      kind: fc.constant('branch' as const),
      depth: fc.constant(1),
      children: fc.array(place, { minLength: 16, maxLength: 16 }),
      packCount: fc.nat(),
    }),
    encodePackSetPage,
    (encoded) => decodePackSetPage(encoded, { depth: 1, self, what: 'it' }) as never,
  ),
  codec(
    'index entries',
    false,
    fc
      .uniqueArray(ref, { selector: ({ id }) => id, minLength: 1, maxLength: 9 })
      .map((refs) => refs.toSorted((a, b) => (a.id < b.id ? -1 : 1))),
    encodeIndexEntries,
    (encoded) => decodeIndexEntries(encoded, 'it'),
  ),
  codec(
    'pack header',
    false,
    fc.record({
      kind: fc.constant(1),
      tenantId: sized(16),
      epoch: fc.nat(),
      sealedSessionKey: sized(80),
      machineId: fc.constant(undefined),
      salt: hash,
      generation: fc.uint8Array({ maxLength: 32 }),
    }),
    encodePackHeader,
    (encoded) => decodePackHeader(encoded, 'it').header as never,
  ),
  codec(
    'point body',
    false,
    fc.record({
      machine: json,
      capture: json,
      disks: fc.uniqueArray(
        fc.record({
          name: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,8}$/),
          root: fc.record({
            sizeBytes: fc.maxSafeNat(),
            chunkSizeBytes: fc.constant(64),
            map: place,
            packs: fc.option(ref),
          }),
          info: json,
        }),
        { maxLength: 3, selector: ({ name }) => name },
      ),
      files: fc.array(fc.record({ name: fc.string({ maxLength: 9 }), content: fc.uint8Array({ maxLength: 30 }) }), {
        maxLength: 2,
      }),
    }),
    encodePointBody,
    (encoded) => decodePointBody(encoded, 'it') as never,
  ),
];

/** Buffers and other views compare by content. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, inner: unknown) =>
      inner instanceof Uint8Array ? Buffer.from(inner).toString('hex') : inner,
    ),
  );
}

function refused(action: () => unknown): boolean {
  try {
    action();
    return false;
  } catch (error) {
    if (hasCode(error, 'repository.object-damaged', 'repository.newer-version', 'repository.limit-exceeded'))
      return true;
    throw error;
  }
}

describe.each(codecs)('$name', ({ value, encode, decode, hashed }) => {
  test('comes back as it was', () => {
    fc.assert(
      fc.property(value, (v) => {
        expect(plain(decode(encode(v as never)))).toEqual(plain(v));
      }),
    );
  });

  test('is refused when it is cut short', () => {
    fc.assert(
      fc.property(value, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (v, part) => {
        const encoded = encode(v as never);
        const cut = encoded.subarray(0, Math.floor(encoded.length * part));
        // An unhashed message cut between two fields may be a shorter message, but never the same one.
        if (refused(() => decode(cut))) return;
        expect(hashed).toBe(false);
        expect(plain(decode(cut))).not.toEqual(plain(v));
      }),
    );
  });

  test('is refused, or is openly another value, when a bit is flipped', () => {
    fc.assert(
      fc.property(value, fc.nat(), fc.integer({ min: 0, max: 7 }), (v, at, bit) => {
        const encoded = Uint8Array.from(encode(v as never));
        const position = at % encoded.length;
        encoded[position] = (encoded[position] ?? 0) ^ (1 << bit);
        if (refused(() => decode(encoded))) return;
        expect(hashed).toBe(false);
        expect(plain(decode(encoded))).not.toEqual(plain(v));
      }),
      { numRuns: 300 },
    );
  });

  test('meets noise with an error of ours, or with a value', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 80 }), (noise) => {
        expect(refused(() => decode(noise)) || !hashed).toBe(true);
      }),
    );
  });
});

describe('frames', () => {
  test('name the version they do not know', () => {
    const frame = Buffer.from(encodeFrame('REPO', Buffer.from('body')));
    frame.writeUInt16BE(FORMAT_VERSION + 1, 12);
    expect(() => decodeFrame('REPO', frame, 'it')).toThrowError(/version 2; this program knows 1/);
  });

  test('are not taken for those of another type', () => {
    expect(() => decodeFrame('KEYS', encodeFrame('REPO', Buffer.from('body')), 'it')).toThrowError(/found "REPO"/);
    expect(() => expectPrefix(Buffer.from('short'), 'PONT', 'it')).toThrowError(/too few/);
  });

  test('have nothing behind their end', () => {
    const longer = Buffer.concat([encodeFrame('REPO', Buffer.from('body')), Buffer.from('x')]);
    expect(() => decodeFrame('REPO', longer, 'it')).toThrowError(/instead of/);
  });
});

describe('strict protobuf', () => {
  const inner = message({ n: uint(1) });
  const schema = message({
    id: uint(1, 1000),
    names: list(2, inner, 2),
    numbers: uints(3, 3),
    note: optional(text(4, 5)),
  });
  const decode = (hexBytes: string): unknown => schema.decode(Buffer.from(hexBytes, 'hex'), 'it');

  test('reads what any encoder writes for the same message', () => {
    expect(decode('0801120208021a020304220161')).toEqual({ id: 1, names: [{ n: 2 }], numbers: [3, 4], note: 'a' });
  });

  test.each([
    ['an unknown field', '08012801', /unknown field 5/],
    ['a missing field', '12020802', /field id is missing/],
    ['a field twice', '08010801', /appears twice/],
    ['another wire type', '0a0101', /wire type 2/],
    ['a value over its limit', '08e907', /1001 is not in 0\.\.1000/],
    ['too many items', '0801120208011202080112020801', /more than 2 items/],
    ['too many numbers', '08011a0401020304', /more than 3 numbers/],
    ['a number longer than it needs to be', '088100', /not the canonical/],
    ['fields in another order', '120208020801', /not the canonical/],
    ['text that is not UTF-8', '08012201ff', /it: /],
    ['packed numbers that run past the end', '08011a0501', /past the end/],
  ])('refuses %s', (_, encoded, why) => {
    expect(() => decode(encoded)).toThrowError(why);
  });

  test('does not write what it would not read', () => {
    expect(() => schema.encode({ id: 1001, names: [], numbers: [], note: undefined })).toThrowError(/field id: 1001/);
  });
});

test('a reference to the pack a page is in becomes the name of that pack', () => {
  const inPack: BlobRef = {
    id: chunkIdOf(Buffer.alloc(32, 1)),
    pack: SELF,
    slot: 3,
    offsetBytes: 200,
    lengthBytes: 30,
  };
  const page = encodeMapPage({ level: 1, index: 0, places: [inPack, 'hole', 'zero', inPack] });
  const decoded = decodeMapPage(page, { level: 1, index: 0, self, geometry, what: 'it' });
  expect(decoded.places).toEqual([{ ...inPack, pack: self }, 'hole', 'zero', { ...inPack, pack: self }]);
  expect(sameRef(inPack, { ...inPack, pack: self })).toBe(false);
});

test('a disk of a point whose name leads out of a directory, or is another one’s, is refused', () => {
  const root = { sizeBytes: 64, chunkSizeBytes: 64, map: 'hole', packs: null } as const;
  const body = (...names: string[]): Uint8Array =>
    encodePointBody({ machine: {}, capture: {}, disks: names.map((name) => ({ name, root, info: null })), files: [] });
  // As somebody writes it who has the keys and not our writer.
  const sound = Buffer.from(body('aaaa', 'bbbb')).toString('latin1');
  for (const name of ['../a', '/etc', '.a.b', 'a/bc', 'a\0bc', 'a bc', 'bbbb']) {
    const forged = Buffer.from(sound.replace('aaaa', name), 'latin1');
    expect(() => decodePointBody(forged, 'it')).toThrow(expect.objectContaining({ code: 'repository.object-damaged' }));
  }
  expect(decodePointBody(Buffer.from(sound, 'latin1'), 'it').disks.map(({ name }) => name)).toEqual(['aaaa', 'bbbb']);
  for (const names of [['../a'], [''], ['a', 'a']])
    expect(() => body(...names)).toThrow(expect.objectContaining({ code: 'input.invalid' }));
});

test('packs and blobs of a damage report that are not in order are refused', () => {
  const [a, b] = [packNameOf(Buffer.alloc(32, 1)), packNameOf(Buffer.alloc(32, 2))];
  const packs = Buffer.from(encodeReportedPacks([b, a]));
  const report = { reportedMs: 0, salt: Buffer.alloc(32), sealed: Buffer.alloc(0) };
  expect(reportedPacks({ ...report, packs }, 'it')).toEqual([a, b]);
  for (const wrong of [Buffer.concat([packs.subarray(32), packs]), Buffer.concat([packs, packs]), packs.subarray(1)])
    expect(() => reportedPacks({ ...report, packs: wrong }, 'it')).toThrow(/out of order|bytes of pack names/);
  const one = { id: chunkIdOf(Buffer.alloc(32, 3)), pack: a, slot: 1, offsetBytes: 0, lengthBytes: 20 };
  const twice = encodeReportedBlobs({ chunks: [one, one], pages: [] });
  expect(() => decodeReportedBlobs(twice, 'it')).toThrow('out of order');
});

test('a page that is not where it should be is refused', () => {
  const page = encodeMapPage({ level: 0, index: 5, places: Array.from({ length: 8 }, () => 'zero' as const) });
  expect(() => decodeMapPage(page, { level: 0, index: 6, self, geometry, what: 'it' })).toThrowError(/found page 5/);
  expect(() => decodeMapPage(page, { level: 1, index: 5, self, geometry, what: 'it' })).toThrowError(/of level 0/);
});

test('the root is as high as the disk needs', () => {
  expect([0, 1, 8, 9, 32, 33, 128, 129].map((chunks) => rootLevel(geometry, chunks))).toEqual([0, 0, 0, 1, 1, 2, 2, 3]);
});

test('only the object of a pack has the name of a pack', () => {
  const pack = packNameOf(Buffer.alloc(32, 0xab));
  expect(packOfObject(packObject(pack))).toBe(pack);
  expect(packOfObject(`data/packs/00/${pack}`)).toBeUndefined();
  expect(packOfObject('data/packs/ab/abc')).toBeUndefined();
});
