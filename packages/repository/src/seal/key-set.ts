/** Making and opening key sets. What one is for: `format/key-set.ts`. */
import type { Random } from '@lifeboat/foundation/random';

import { damaged } from '../format/frame.ts';
import {
  decodeKeyBundle,
  encodeKeyBundle,
  encodeKeySet,
  encodeKeySetBody,
  type KeyBundle,
  type KeySet,
  type KeySetBody,
} from '../format/key-set.ts';
import { open, seal, type Seal } from './aead.ts';
import { publicPart, sealToPublicKey, signEd25519, verifyEd25519 } from './curve-keys.ts';
import { lengthPrefixed, u32 } from './derive.ts';
import type { SlotBase, SlotBinding } from './key-slot.ts';
import { newestEpoch } from './keyring.ts';

export interface KeySetInput extends Pick<KeySetBody, 'tenantName' | 'generation' | 'createdMs'> {
  readonly bundle: KeyBundle;
  /** Slots of the set before serve as they are: what they hold for that set is replaced. */
  readonly slots: readonly SlotBase[];
}

/** The object of a set: its key is drawn anew and sealed to every slot. */
export function sealKeySet(input: KeySetInput, context: { superblockHash: Uint8Array; random: Random }): Uint8Array {
  const { bundle, slots, ...open } = input;
  const { superblockHash, random } = context;
  const { tenantId } = bundle;
  const setKey = random.bytes(32);
  const { epoch, sessionPrivateKey } = newestEpoch(bundle);
  const body = encodeKeySetBody({
    ...open,
    tenantId,
    epoch,
    sessionPublicKey: publicPart('x25519', sessionPrivateKey),
    slots: slots.map((slot) => ({
      ...slot,
      sealedSetKey: sealToPublicKey('key set seal', {
        recipient: slot.publicKey,
        plain: setKey,
        ephemeral: random.bytes(32),
      }),
    })),
    sealedBundle: seal(
      bundleSeal(setKey, { superblockHash, tenantId, generation: open.generation }),
      encodeKeyBundle(bundle),
    ),
  });
  return encodeKeySet({ body, signature: signEd25519(bundle.signingSeed, signedBytes(superblockHash, body)) });
}

/** True when `signer` signed the set for this repository. */
export function isSignedBy(set: KeySet, input: { signer: Uint8Array; superblockHash: Uint8Array }): boolean {
  return verifyEd25519(input.signer, signedBytes(input.superblockHash, set.bodyBytes), set.signature);
}

/** The bundle of a set, checked against everything the slot vouches for. Throws `repository.object-damaged`. */
export function openKeySet(
  set: KeySet,
  input: { signer: Uint8Array; setKey: Uint8Array; binding: SlotBinding; what: string },
): KeyBundle {
  const { signer, setKey, binding, what } = input;
  if (!isSignedBy(set, { signer, superblockHash: binding.superblockHash })) {
    throw damaged(what, 'it is not signed by the key this slot was made for');
  }
  const plain = open(bundleSeal(setKey, { ...binding, generation: set.generation }), set.sealedBundle);
  if (!plain) throw damaged(what, 'its key bundle does not open');
  const bundle = decodeKeyBundle(plain, what);
  if (Buffer.compare(bundle.tenantId, binding.tenantId) !== 0) throw damaged(what, 'its keys are of another tenant');
  return bundle;
}

function signedBytes(superblockHash: Uint8Array, body: Uint8Array): Buffer {
  return lengthPrefixed('lifeboat key set', superblockHash, body);
}

function bundleSeal(key: Uint8Array, binding: SlotBinding & { generation: number }): Seal {
  const { superblockHash, tenantId, generation } = binding;
  return {
    key,
    counter: 0,
    additionalData: lengthPrefixed('lifeboat key bundle', superblockHash, tenantId, u32(generation)),
  };
}
