/**
 * What an agent holds, in a file of its own (mode 0600): enough to back its machines up, and to open no chunk.
 * `frame('AGNT', protobuf)`; docs/format.md, section 18, says what each key is good for.
 */
import { damaged, decodeFrame, encodeFrame } from './frame.ts';
import { MAX_AGENT_MACHINES, MAX_CERTIFICATE_BYTES } from './limits.ts';
import { bytes, list, message, text, uint, type MessageOf } from './wire.ts';

const schema = message({
  /** SHA-256 of the superblock object: the repository it is for. */
  superblockHash: bytes(1, { length: 32 }),
  tenantId: bytes(2, { length: 16 }),
  /** The tenant's Ed25519 public key: what it believes is signed by this one. */
  signer: bytes(3, { length: 32 }),
  /** The newest epoch when it was enrolled; later ones it learns from signed key sets. */
  epoch: uint(4, 0xffff_ffff),
  sessionPublicKey: bytes(5, { length: 32 }),
  chunkIdKey: bytes(6, { length: 32 }),
  /** Of the machines in its certificate, and in that order. */
  machines: list(7, message({ machineId: text(1, 64), key: bytes(2, { length: 32 }) }), MAX_AGENT_MACHINES),
  /** Ed25519; its public part is in the certificate. */
  signingSeed: bytes(8, { length: 32 }),
  /** The object. */
  certificate: bytes(9, { max: MAX_CERTIFICATE_BYTES }),
});
export type AgentCredential = MessageOf<typeof schema>;

export const encodeAgentCredential = (credential: AgentCredential): Uint8Array =>
  encodeFrame('AGNT', schema.encode(credential));

/** Throws `repository.object-damaged` or `repository.newer-version`. */
export function decodeAgentCredential(object: Uint8Array, what: string): AgentCredential {
  const credential = schema.decode(decodeFrame('AGNT', object, what), what);
  if (credential.machines.length === 0) throw damaged(what, 'it is for no machine');
  return credential;
}
