/** The keys of an agent: it can seal what it backs up, and open no chunk. Which key does what: docs/format.md, section 18. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId } from '@lifeboat/foundation/ids';
import type { Random } from '@lifeboat/foundation/random';

import type { AgentCredential } from '../format/agent-credential.ts';
import { damaged } from '../format/frame.ts';
import { PACK_KINDS, type PackHeader } from '../format/pack.ts';
import type { PointHeader } from '../format/point.ts';
import { certifiedStatement, openCertificate, type AgentCertificate } from './certificate.ts';
import { publicPart, signEd25519, verifyEd25519 } from './curve-keys.ts';
import {
  controlKeyOf,
  indexKeyOf,
  newSessionKey,
  tagOf,
  type Keyring,
  type SessionKey,
  type Signed,
} from './keyring.ts';
import { pointKey } from './point-seal.ts';

export class AgentKeyring implements Keyring {
  readonly agent: AgentCertificate;
  readonly tenantId: Uint8Array;
  readonly chunkIdKey: Uint8Array;
  readonly indexKey: Buffer;
  readonly signer: Uint8Array;
  readonly #controlKey: Buffer;
  readonly #machineKeys: ReadonlyMap<string, Buffer>;
  readonly #signingSeed: Uint8Array;
  /** The object. */
  readonly #certificate: Uint8Array;
  #recipient: { readonly epoch: number; readonly recipient: Uint8Array };

  /** Throws `repository.object-damaged` for a credential whose parts do not belong together. */
  constructor(credential: AgentCredential, what: string) {
    const { tenantId, signer, chunkIdKey, signingSeed, certificate, epoch, sessionPublicKey, machines } = credential;
    this.tenantId = tenantId;
    this.signer = signer;
    this.chunkIdKey = chunkIdKey;
    this.indexKey = indexKeyOf(chunkIdKey);
    this.#controlKey = controlKeyOf(chunkIdKey);
    this.#signingSeed = signingSeed;
    this.#certificate = certificate;
    this.#recipient = { epoch, recipient: sessionPublicKey };
    this.#machineKeys = new Map(machines.map(({ machineId, key }) => [machineId, Buffer.from(key)]));
    this.agent = openCertificate(this, certificate, `the certificate in ${what}`);
    const isWhole =
      Buffer.compare(publicPart('ed25519', signingSeed), this.agent.publicKey) === 0 &&
      this.agent.machines.length === machines.length &&
      this.agent.machines.every((machineId, i) => machineId === machines[i]?.machineId);
    if (!isWhole) throw damaged(what, 'its keys are not those of its certificate');
  }

  /** Takes over a newer epoch of the tenant; an older one shows an attacker, or a store that lost something. */
  adopt(newest: { readonly epoch: number; readonly sessionPublicKey: Uint8Array }): void {
    if (newest.epoch <= this.#recipient.epoch) return;
    this.#recipient = { epoch: newest.epoch, recipient: newest.sessionPublicKey };
  }

  nameTag(plain: string): string {
    return tagOf(this.#controlKey, plain);
  }

  readonly role = 'agent';

  mayOpen({ machineId }: { readonly machineId: MachineId }): boolean {
    return this.#machineKeys.has(machineId);
  }

  pointKeyOf(header: Pick<PointHeader, 'machineId' | 'salt'>): Uint8Array {
    return pointKey(this.machineKey(header.machineId as MachineId), header);
  }

  machineKey(machineId: MachineId): Buffer {
    const key = this.#machineKeys.get(machineId);
    if (!key) throw this.#refusal(`open or seal maps and points of machine ${machineId}`);
    return key;
  }

  get epoch(): number {
    return this.#recipient.epoch;
  }

  newSessionKey(random: Random): SessionKey {
    return newSessionKey(this.#recipient, random);
  }

  /** It opens none, so none is missing. */
  knowsEpochOf(): boolean {
    return true;
  }

  baseKeyOf(header: PackHeader): Uint8Array | undefined {
    if (Buffer.compare(header.tenantId, this.tenantId) !== 0) return undefined;
    if (header.kind === PACK_KINDS.data) throw this.#refusal('open chunks');
    return this.machineKey(header.machineId as MachineId);
  }

  objectKey(): Buffer {
    throw this.#refusal('open or seal what is known of machines');
  }

  sign(): Buffer {
    throw this.#refusal('sign for the tenant');
  }

  signAsWriter(statement: Uint8Array): Signed {
    const certificate = this.#certificate;
    const signature = signEd25519(this.#signingSeed, certifiedStatement(statement, certificate));
    return { signer: this.agent.publicKey, signature, certificate };
  }

  isSignedBy(signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
    return verifyEd25519(signer, bytes, signature);
  }

  verify(signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
    return Buffer.compare(signer, this.signer) === 0 && this.isSignedBy(signer, bytes, signature);
  }

  #refusal(act: string): LifeboatError {
    return new LifeboatError('repository.not-permitted', `agent ${this.agent.name} has no key to ${act}`, {
      context: { agentId: this.agent.agentId },
    });
  }
}
