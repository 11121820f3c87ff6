/**
 * What makes an agent one: the tenant's signature over the agent's public signing key, the machines it may back up, and for how long.
 * `frame('CERT', protobuf {1 body, 2 signature})`. The whole object lies in each object the agent signs, so that a reader needs
 * nothing else to check it; only a revocation (`revocation.ts`) must be looked for.
 */
import { damaged, decodeFrame, encodeFrame } from './frame.ts';
import { MAX_AGENT_MACHINES, MAX_CERTIFICATE_BYTES } from './limits.ts';
import { bytes, list, message, text, uint, type MessageOf } from './wire.ts';

/** Bits of a certificate. A reader passes over those it does not know: they allow nothing that it does. */
export const CAPABILITIES = { backUp: 1 } as const;

const bodySchema = message({
  tenantId: bytes(1, { length: 16 }),
  agentId: bytes(2, { length: 16 }),
  /** For people. */
  name: text(3, 64),
  /** Ed25519 public key. */
  publicKey: bytes(4, { length: 32 }),
  /** Whose points it may commit, ascending. */
  machines: list(5, message({ machineId: text(1, 64) }), MAX_AGENT_MACHINES),
  capabilities: uint(6, 0xffff_ffff),
  /** Unix ms by the clock of who enrolled it. */
  notBeforeMs: uint(7),
  notAfterMs: uint(8),
  /** Label of the key slot by which who enrolled it had opened the tenant. */
  issuedBy: text(9, 128),
});
export type CertificateBody = MessageOf<typeof bodySchema>;

const envelopeSchema = message({
  body: bytes(1, { max: MAX_CERTIFICATE_BYTES }),
  signature: bytes(2, { length: 64 }),
});

/** What holds the certificate of who signed it; without one the tenant itself did. */
export type Certified<T> = T & { readonly certificate?: Uint8Array };

export const certificateField = (tag: number): ReturnType<typeof bytes> => bytes(tag, { max: MAX_CERTIFICATE_BYTES });

export const encodeCertificateBody = (body: CertificateBody): Uint8Array => bodySchema.encode(body);
export const encodeCertificate = (envelope: MessageOf<typeof envelopeSchema>): Uint8Array =>
  encodeFrame('CERT', envelopeSchema.encode(envelope));

/** The caller checks tenant and signature. Throws `repository.object-damaged` or `repository.newer-version`. */
export function decodeCertificate(
  object: Uint8Array,
  what: string,
): { certificate: CertificateBody; body: Uint8Array; signature: Uint8Array } {
  const { body, signature } = envelopeSchema.decode(decodeFrame('CERT', object, what), what);
  const certificate = bodySchema.decode(body, what);
  const { machines } = certificate;
  const rise = machines.every(({ machineId }, i) => machineId > (machines[i - 1]?.machineId ?? ''));
  if (machines.length === 0 || !rise) throw damaged(what, 'its machines do not rise');
  return { certificate, body, signature };
}
