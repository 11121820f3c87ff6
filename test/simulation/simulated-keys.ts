/**
 * Keys that cost nothing: signatures and tags of names are hashes, a sealed session key is the key. Curves take nine tenths of a
 * schedule's time, and no rule of collection depends on them. Who may do what, and which epoch a process knows, is as in production.
 */
import { hash } from 'node:crypto';

import type { MachineId } from '@lifeboat/foundation/ids';
import type { Random } from '@lifeboat/foundation/random';
import type { AgentCredential } from '@lifeboat/repository/format/agent-credential';
import { sha256 } from '@lifeboat/repository/format/frame';
import type { KeyBundle } from '@lifeboat/repository/format/key-set';
import type { PackHeader } from '@lifeboat/repository/format/pack';
import type { PointHeader } from '@lifeboat/repository/format/point';
import { hex } from '@lifeboat/repository/format/names';
import { AgentKeyring } from '@lifeboat/repository/seal/agent-keyring';
import { certifiedStatement } from '@lifeboat/repository/seal/certificate';
import { TenantKeyring, type SessionKey, type Signed } from '@lifeboat/repository/seal/keyring';

import { Remembered } from './remembered.ts';

const fixed = (length: number, byte: number): Buffer => Buffer.alloc(length, byte);
export const TENANT_ID = fixed(16, 2);
const SIGNER = fixed(32, 7);
const NO_SEAL = fixed(48, 0);
const bundle: KeyBundle = {
  tenantId: TENANT_ID,
  epochs: [{ epoch: 1, sessionPrivateKey: fixed(32, 3) }],
  chunkIdKey: fixed(32, 4),
  machineRootKey: fixed(32, 5),
  signingSeed: fixed(32, 6),
};
const real = new TenantKeyring(bundle);
const INDEX_KEY = real.indexKey;
const machineKeys = new Remembered<string, Buffer>();
const pointKeys = new Remembered<string, Uint8Array>();
const tags = new Remembered<string, string>();
const tagOf = (plain: string): string => tags.of(plain, () => hash('sha256', plain).slice(0, 32));

function signatureOf(signer: Uint8Array, bytes: Uint8Array): Buffer {
  const half = sha256(signer, bytes);
  return Buffer.concat([half, half]);
}

const isSignature = (signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean =>
  Buffer.compare(signatureOf(signer, bytes), signature) === 0;

const sessionKey = (epoch: number, random: Random): SessionKey => {
  const key = random.bytes(32);
  return { key, epoch, sealed: Buffer.concat([key, NO_SEAL]) };
};

/** A process that learns of a rotation. */
export interface Learning {
  readonly epoch: number;
  learn(epoch: number): void;
}

export class SimulatedKeyring extends TenantKeyring implements Learning {
  #epoch: number;

  /** `epoch`: the newest when the repository was opened. */
  constructor(epoch = 1) {
    super(bundle);
    this.#epoch = epoch;
  }

  learn(epoch: number): void {
    this.#epoch = Math.max(this.#epoch, epoch);
  }

  override get epoch(): number {
    return this.#epoch;
  }

  override knowsEpochOf(header: PackHeader): boolean {
    return header.epoch === undefined || header.epoch <= this.#epoch;
  }

  override get indexKey(): Buffer {
    return INDEX_KEY;
  }

  override machineKey(machineId: MachineId): Buffer {
    return machineKeys.of(machineId, () => super.machineKey(machineId));
  }

  override pointKeyOf(header: Pick<PointHeader, 'machineId' | 'salt'>): Uint8Array {
    return pointKeys.of(`${header.machineId} ${hex(header.salt)}`, () => super.pointKeyOf(header));
  }

  override nameTag(plain: string): string {
    return tagOf(plain);
  }

  override get signer(): Buffer {
    return SIGNER;
  }

  override sign(bytes: Uint8Array): Buffer {
    return signatureOf(SIGNER, bytes);
  }

  override isSignedBy(signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
    return isSignature(signer, bytes, signature);
  }

  override newSessionKey(random: Random): SessionKey {
    return sessionKey(this.#epoch, random);
  }

  override baseKeyOf(header: PackHeader): Uint8Array | undefined {
    if (!header.sealedSessionKey) return super.baseKeyOf(header);
    return this.knowsEpochOf(header) ? header.sealedSessionKey.subarray(0, 32) : undefined;
  }
}

/** It opens no chunk, and signs with its own key under its certificate, as every agent. */
export class SimulatedAgentKeyring extends AgentKeyring implements Learning {
  readonly #object: Uint8Array;
  #epoch: number;

  constructor(credential: AgentCredential, epoch: number) {
    super(credential, 'a simulated credential');
    this.#object = credential.certificate;
    this.#epoch = epoch;
  }

  learn(epoch: number): void {
    this.#epoch = Math.max(this.#epoch, epoch);
  }

  override get epoch(): number {
    return this.#epoch;
  }

  override nameTag(plain: string): string {
    return tagOf(plain);
  }

  override newSessionKey(random: Random): SessionKey {
    return sessionKey(this.#epoch, random);
  }

  override signAsWriter(statement: Uint8Array): Signed {
    const signer = this.agent.publicKey;
    const certificate = this.#object;
    return { signer, signature: signatureOf(signer, certifiedStatement(statement, certificate)), certificate };
  }

  override isSignedBy(signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
    return isSignature(signer, bytes, signature);
  }
}

/** Who knows all epochs: for looking into the store from outside. */
export const keyring = new SimulatedKeyring(Number.MAX_SAFE_INTEGER);
