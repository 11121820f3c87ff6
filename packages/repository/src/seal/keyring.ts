import { createHmac } from 'node:crypto';

import type { MachineId, PointId } from '@lifeboat/foundation/ids';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { Random } from '@lifeboat/foundation/random';

import type { KeyBundle } from '../format/key-set.ts';
import type { PackName } from '../format/names.ts';
import { PACK_KINDS, type PackHeader } from '../format/pack.ts';
import type { PointHeader } from '../format/point.ts';
import type { AgentCertificate } from './certificate.ts';
import { openWithPrivateKey, publicPart, sealToPublicKey, signEd25519, verifyEd25519 } from './curve-keys.ts';
import { deriveKey } from './derive.ts';
import { pointKey } from './point-seal.ts';

/** A writer session's key, and the same key sealed to the tenant, which goes into the header of every pack. */
export interface SessionKey {
  readonly key: Uint8Array;
  readonly epoch: number;
  readonly sealed: Uint8Array;
}

/** A signature over a statement, and the certificate of the agent that made it; without one the tenant did. */
export interface Signed {
  /** Ed25519 public key. */
  readonly signer: Uint8Array;
  readonly signature: Uint8Array;
  /** The object. */
  readonly certificate?: Uint8Array;
}

/**
 * The keys a process has, as operations rather than bytes: all of a tenant, those of an agent, or those of some points. Never logged, never in an error.
 * What the keys at hand do not allow throws `repository.not-permitted`.
 */
export interface Keyring {
  readonly tenantId: Uint8Array;
  /** Present: these are the keys of an agent. */
  readonly agent?: AgentCertificate | undefined;
  /** Keyed BLAKE3 over plaintexts. Handed to sealing threads. */
  readonly chunkIdKey: Uint8Array;
  /** Seals index segments. Whoever may ask "is this chunk known" holds it. */
  readonly indexKey: Buffer;
  /** Ends the name of a record under control/: 32 hexadecimal digits. Whoever may write such a record can compute it. */
  nameTag(plain: string): string;
  /** 'reader': keys of some points and nothing else. */
  readonly role: 'tenant' | 'agent' | 'reader';
  /** Whether the point can be opened with these keys. */
  mayOpen(point: { readonly machineId: MachineId; readonly pointId: PointId }): boolean;
  /** Seals the body of one point. */
  pointKeyOf(header: Pick<PointHeader, 'machineId' | 'pointId' | 'salt'>): Uint8Array;
  /** The key of one pack, where these keys are those of packs and not of machines and epochs. */
  readonly packKeyOf?: (pack: PackName) => Uint8Array;
  /** Seals the maps, pack sets and points of one machine. */
  machineKey(machineId: MachineId): Buffer;
  /** Seals one control object, so that who needs no other can be given this key alone. */
  objectKey(of: { readonly kind: string; readonly id: string }): Buffer;
  /** The newest one, in which sessions that begin now are sealed. */
  readonly epoch: number;
  newSessionKey(random: Random): SessionKey;
  /** Whether a pack's session key was sealed in an epoch these keys know; map and set packs have none. */
  knowsEpochOf(header: PackHeader): boolean;
  /**
   * The key a pack's own key is derived from: the session's, or the machine's; undefined when the header was not made for
   * this tenant.
   */
  baseKeyOf(header: PackHeader): Uint8Array | undefined;
  /** The tenant's public signing key. */
  readonly signer: Uint8Array;
  /** By the tenant. */
  sign(bytes: Uint8Array): Buffer;
  /** By who holds these keys, for what agents may sign as well. */
  signAsWriter(statement: Uint8Array): Signed;
  /** True when the signature is that of the public key `signer`, whosever that is. */
  isSignedBy(signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean;
  /** True when `signer` is the tenant's own signing key and the signature is its. */
  verify(signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean;
}

/** What a tenant's secret opens. */
export class TenantKeyring implements Keyring {
  readonly tenantId: Uint8Array;
  #bundle: KeyBundle;
  #signer: Buffer | undefined;
  #controlKey: Buffer | undefined;
  #lastMachine: { readonly machineId: MachineId; readonly key: Buffer } | undefined;

  constructor(bundle: KeyBundle) {
    this.#bundle = bundle;
    this.tenantId = bundle.tenantId;
  }

  /** What an agent of these machines holds of it. */
  forAgent(machines: readonly MachineId[]): {
    epoch: number;
    sessionPublicKey: Uint8Array;
    machines: { machineId: MachineId; key: Uint8Array }[];
  } {
    const { epoch, sessionPrivateKey } = newestEpoch(this.#bundle);
    return {
      epoch,
      sessionPublicKey: publicPart('x25519', sessionPrivateKey),
      machines: machines.map((machineId) => ({ machineId, key: this.machineKey(machineId) })),
    };
  }

  readonly role = 'tenant';

  mayOpen(): boolean {
    return true;
  }

  pointKeyOf(header: Pick<PointHeader, 'machineId' | 'salt'>): Uint8Array {
    return pointKey(this.machineKey(header.machineId as MachineId), header);
  }

  /** Takes over the epochs of a newer set of the same keys. Throws `internal.bug` for other keys. */
  adopt(bundle: KeyBundle): void {
    const same = (['tenantId', 'chunkIdKey', 'machineRootKey', 'signingSeed'] as const).every(
      (key) => Buffer.compare(bundle[key], this.#bundle[key]) === 0,
    );
    if (!same) throw new LifeboatError('internal.bug', 'a rotation gave a tenant other keys');
    this.#bundle = bundle;
  }

  knowsEpochOf(header: PackHeader): boolean {
    return header.epoch === undefined || this.#bundle.epochs.some(({ epoch }) => epoch === header.epoch);
  }

  get chunkIdKey(): Uint8Array {
    return this.#bundle.chunkIdKey;
  }

  get indexKey(): Buffer {
    return indexKeyOf(this.#bundle.chunkIdKey);
  }

  nameTag(plain: string): string {
    this.#controlKey ??= controlKeyOf(this.#bundle.chunkIdKey);
    return tagOf(this.#controlKey, plain);
  }

  machineKey(machineId: MachineId): Buffer {
    // Asked for each point of a machine after the other.
    if (this.#lastMachine?.machineId !== machineId) {
      const key = deriveKey(this.#bundle.machineRootKey, `machine key ${machineId}`, this.tenantId);
      this.#lastMachine = { machineId, key };
    }
    return this.#lastMachine.key;
  }

  get epoch(): number {
    return newestEpoch(this.#bundle).epoch;
  }

  objectKey({ kind, id }: { readonly kind: string; readonly id: string }): Buffer {
    return deriveKey(this.#bundle.machineRootKey, `object key ${kind}/${id}`, this.tenantId);
  }

  newSessionKey(random: Random): SessionKey {
    const { epoch, sessionPrivateKey } = newestEpoch(this.#bundle);
    return newSessionKey({ epoch, recipient: publicPart('x25519', sessionPrivateKey) }, random);
  }

  baseKeyOf(header: PackHeader): Uint8Array | undefined {
    if (Buffer.compare(header.tenantId, this.tenantId) !== 0) return undefined;
    if (header.kind !== PACK_KINDS.data) return this.machineKey(header.machineId as MachineId);
    const epoch = this.#bundle.epochs.find((candidate) => candidate.epoch === header.epoch);
    if (!epoch || !header.sealedSessionKey) return undefined;
    return openWithPrivateKey('session seal', {
      rawPrivate: epoch.sessionPrivateKey,
      sealed: header.sealedSessionKey,
    });
  }

  get signer(): Buffer {
    return (this.#signer ??= publicPart('ed25519', this.#bundle.signingSeed));
  }

  sign(bytes: Uint8Array): Buffer {
    return signEd25519(this.#bundle.signingSeed, bytes);
  }

  signAsWriter(statement: Uint8Array): Signed {
    return { signer: this.signer, signature: this.sign(statement) };
  }

  isSignedBy(signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
    return verifyEd25519(signer, bytes, signature);
  }

  verify(signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
    return Buffer.compare(signer, this.signer) === 0 && this.isSignedBy(signer, bytes, signature);
  }
}

export const indexKeyOf = (chunkIdKey: Uint8Array): Buffer => deriveKey(chunkIdKey, 'index key');
export const controlKeyOf = (chunkIdKey: Uint8Array): Buffer => deriveKey(chunkIdKey, 'control key');
export const tagOf = (controlKey: Uint8Array, plain: string): string =>
  createHmac('sha256', controlKey).update(plain, 'utf8').digest('hex').slice(0, 32);

/** A fresh session key, sealed to the public key of an epoch. */
export function newSessionKey(to: { epoch: number; recipient: Uint8Array }, random: Random): SessionKey {
  const key = random.bytes(32);
  const sealed = sealToPublicKey('session seal', { recipient: to.recipient, plain: key, ephemeral: random.bytes(32) });
  return { key, epoch: to.epoch, sealed };
}

export function newestEpoch(bundle: KeyBundle): KeyBundle['epochs'][number] {
  const newest = bundle.epochs.at(-1);
  if (!newest) throw new LifeboatError('internal.bug', 'a key bundle without an epoch');
  return newest;
}

export function newKeyBundle(tenantId: Uint8Array, random: Random): KeyBundle {
  return {
    tenantId,
    epochs: [{ epoch: 1, sessionPrivateKey: random.bytes(32) }],
    chunkIdKey: random.bytes(32),
    machineRootKey: random.bytes(32),
    signingSeed: random.bytes(32),
  };
}
