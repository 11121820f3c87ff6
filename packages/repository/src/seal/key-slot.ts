/** A way into a tenant. What the slot's secret gives is only ever turned into the three keys below. */
import type { Random } from '@lifeboat/foundation/random';

import type { KeySlot } from '../format/key-set.ts';
import { open, seal, type Seal } from './aead.ts';
import { openWithPrivateKey, publicPart } from './curve-keys.ts';
import { deriveKey, lengthPrefixed } from './derive.ts';
import { newRoot, rootOf, type Cost, type SecretBytes } from './secret.ts';

/** A slot before a set's key is sealed to it. */
export type SlotBase = Omit<KeySlot, 'sealedSetKey'>;

/** What a slot is bound to: its repository (SHA-256 of the superblock object) and its tenant. */
export interface SlotBinding {
  readonly superblockHash: Uint8Array;
  readonly tenantId: Uint8Array;
}

/** `signer` is the tenant's signing key, which the slot will ask of every key set. */
export async function makeSlot(input: {
  secret: SecretBytes;
  label: string;
  signer: Uint8Array;
  binding: SlotBinding;
  createdMs: number;
  random: Random;
  cost?: Cost | undefined;
  signal?: AbortSignal | undefined;
}): Promise<SlotBase> {
  const { random, binding } = input;
  const { root, ...stored } = await newRoot(input.secret, input);
  const slotId = random.bytes(8);
  const salt = random.bytes(32);
  const { check, privateKey, anchorKey } = slotKeys(root, salt);
  return {
    slotId,
    label: input.label,
    createdMs: input.createdMs,
    ...stored,
    salt,
    check,
    publicKey: publicPart('x25519', privateKey),
    sealedAnchor: seal(anchorSeal(anchorKey, { ...binding, slotId }), input.signer),
  };
}

/** What the secret opens: the signing key a set must be signed by, and the set's key. Throws what a key service throws. */
export async function openSlot(
  slot: KeySlot,
  input: { secret: SecretBytes; binding: SlotBinding; signal?: AbortSignal | undefined },
): Promise<{ signer: Uint8Array; setKey: Uint8Array } | 'wrong-secret' | 'damaged'> {
  const root = await rootOf(slot, input.secret, input);
  if (!root) return 'wrong-secret';
  const { check, privateKey, anchorKey } = slotKeys(root, slot.salt);
  if (Buffer.compare(check, slot.check) !== 0) return 'wrong-secret';
  const signer = open(anchorSeal(anchorKey, { ...input.binding, slotId: slot.slotId }), slot.sealedAnchor);
  const setKey = openWithPrivateKey('key set seal', { rawPrivate: privateKey, sealed: slot.sealedSetKey });
  return signer && setKey ? { signer, setKey } : 'damaged';
}

function slotKeys(root: Uint8Array, salt: Uint8Array): { check: Buffer; privateKey: Buffer; anchorKey: Buffer } {
  return {
    check: deriveKey(root, 'key slot check', salt).subarray(0, 16),
    privateKey: deriveKey(root, 'key slot private key', salt),
    anchorKey: deriveKey(root, 'key slot anchor', salt),
  };
}

function anchorSeal(key: Uint8Array, binding: SlotBinding & { slotId: Uint8Array }): Seal {
  const { superblockHash, tenantId, slotId } = binding;
  return {
    key,
    counter: 0,
    additionalData: lengthPrefixed('lifeboat key anchor', superblockHash, tenantId, slotId),
  };
}
