import { randomBytes } from 'node:crypto';

import { describe, expect, test } from 'vitest';

import { openWithPrivateKey, publicPart, sealToPublicKey, signEd25519, verifyEd25519 } from './curve-keys.ts';

const from = (hexBytes: string): Buffer => Buffer.from(hexBytes, 'hex');

describe('curve keys', () => {
  // From python's cryptography package: X25519PrivateKey.from_private_bytes(bytes(range(32))).
  test('X25519 public part is what another implementation derives', () => {
    const key = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
    expect(publicPart('x25519', key).toString('hex')).toBe(
      '8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f',
    );
  });

  test('Ed25519 signature is that of RFC 8032, section 7.1, test 1', () => {
    const seed = from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60');
    expect(publicPart('ed25519', seed).toString('hex')).toBe(
      'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    );
    expect(signEd25519(seed, Buffer.alloc(0)).toString('hex')).toBe(
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
    );
  });

  test('a sealed session key opens with its private key, and with no other', () => {
    const tenant = randomBytes(32);
    const key = randomBytes(32);
    const sealed = sealToPublicKey('session seal', {
      recipient: publicPart('x25519', tenant),
      plain: key,
      ephemeral: randomBytes(32),
    });
    expect(sealed).toHaveLength(80);
    const opened = (rawPrivate: Uint8Array, from: Uint8Array): Buffer | undefined =>
      openWithPrivateKey('session seal', { rawPrivate, sealed: from });
    expect(opened(tenant, sealed)).toEqual(key);
    // What was sealed for one purpose opens for no other.
    expect(openWithPrivateKey('key set seal', { rawPrivate: tenant, sealed })).toBeUndefined();
    expect(opened(randomBytes(32), sealed)).toBeUndefined();
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed);
      changed[at] = (changed[at] ?? 0) ^ 1;
      // The top bit of an X25519 key is ignored by the curve, but not by our salt; so every bit counts.
      expect(opened(tenant, changed)).toBeUndefined();
    }
    const lowOrder = Buffer.concat([Buffer.alloc(32), sealed.subarray(32)]);
    expect(opened(tenant, lowOrder)).toBeUndefined();
  });

  test('a signature holds for its bytes and key only', () => {
    const seed = randomBytes(32);
    const signer = publicPart('ed25519', seed);
    const signature = signEd25519(seed, Buffer.from('point'));
    expect(verifyEd25519(signer, Buffer.from('point'), signature)).toBe(true);
    expect(verifyEd25519(signer, Buffer.from('Point'), signature)).toBe(false);
    expect(verifyEd25519(publicPart('ed25519', randomBytes(32)), Buffer.from('point'), signature)).toBe(false);
  });
});
