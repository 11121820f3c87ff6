/** The keys of some points: they read these, and nothing else. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId, PointId } from '@lifeboat/foundation/ids';

import type { PackName } from '../format/names.ts';
import type { PointHeader } from '../format/point.ts';
import { keyOfPack, type PointKeys } from '../format/point-keys.ts';
import { verifyEd25519 } from './curve-keys.ts';
import { controlKeyOf, indexKeyOf, tagOf, type Keyring } from './keyring.ts';

export class ReaderKeyring implements Keyring {
  readonly role = 'reader';
  /** It seals nothing. */
  readonly epoch = 0;
  readonly tenantId: Uint8Array;
  readonly chunkIdKey: Uint8Array;
  readonly indexKey: Buffer;
  readonly signer: Uint8Array;
  readonly #controlKey: Buffer;
  readonly #keys: PointKeys;
  readonly #points: ReadonlyMap<string, Uint8Array>;

  constructor(keys: PointKeys) {
    this.tenantId = keys.tenantId;
    this.chunkIdKey = keys.chunkIdKey;
    this.indexKey = indexKeyOf(keys.chunkIdKey);
    this.signer = keys.signer;
    this.#controlKey = controlKeyOf(keys.chunkIdKey);
    this.#keys = keys;
    this.#points = new Map(keys.points.map(({ machineId, pointId, key }) => [`${machineId} ${pointId}`, key]));
  }

  mayOpen({ machineId, pointId }: { readonly machineId: MachineId; readonly pointId: PointId }): boolean {
    return this.#points.has(`${machineId} ${pointId}`);
  }

  pointKeyOf({ machineId, pointId }: Pick<PointHeader, 'machineId' | 'pointId'>): Uint8Array {
    const key = this.#points.get(`${machineId} ${pointId}`);
    if (!key) throw refusal(`open point ${pointId} of machine ${machineId}`);
    return key;
  }

  packKeyOf(pack: PackName): Uint8Array {
    const key = keyOfPack(this.#keys, pack);
    if (!key) throw refusal(`open pack ${pack}`);
    return key;
  }

  nameTag(plain: string): string {
    return tagOf(this.#controlKey, plain);
  }

  knowsEpochOf(): boolean {
    return true;
  }

  machineKey(machineId: MachineId): Buffer {
    throw refusal(`open or seal maps of machine ${machineId}`);
  }

  objectKey(): never {
    throw refusal('open or seal what is known of machines');
  }

  newSessionKey(): never {
    throw refusal('begin a session');
  }

  baseKeyOf(): never {
    throw refusal('open sessions');
  }

  sign(): Buffer {
    throw refusal('sign');
  }

  signAsWriter(): never {
    throw refusal('sign');
  }

  isSignedBy(signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
    return verifyEd25519(signer, bytes, signature);
  }

  verify(signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
    return Buffer.compare(signer, this.signer) === 0 && this.isSignedBy(signer, bytes, signature);
  }
}

function refusal(act: string): LifeboatError {
  return new LifeboatError('repository.not-permitted', `these keys are of other points: they do not ${act}`);
}
