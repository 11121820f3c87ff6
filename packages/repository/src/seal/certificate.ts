/**
 * Who signed: the tenant itself, or an agent whose certificate the tenant signed.
 *
 * ```
 *   tenant's signing key ──► certificate: agent's key, machines, validity ──► statement || LP(certificate)
 * ```
 * Whether the agent was revoked since is not asked here: `agents/revocations.ts`.
 */
import { parseMachineId, type MachineId } from '@lifeboat/foundation/ids';

import { CAPABILITIES, decodeCertificate, type CertificateBody } from '../format/certificate.ts';
import { damaged } from '../format/frame.ts';
import { hex } from '../format/names.ts';
import { lengthPrefixed, u32 } from './derive.ts';
import type { Keyring, Signed } from './keyring.ts';

/** A certificate whose signature was checked. */
export interface AgentCertificate {
  /** 32 hexadecimal digits. */
  readonly agentId: string;
  readonly name: string;
  readonly publicKey: Uint8Array;
  readonly machines: readonly MachineId[];
  readonly mayBackUp: boolean;
  /** Unix ms. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly issuedBy: string;
}

type Verifier = Pick<Keyring, 'tenantId' | 'verify' | 'isSignedBy' | 'signer'>;

/** What the signature of a certificate covers. */
export const signedCertificate = (body: Uint8Array): Buffer => lengthPrefixed('lifeboat agent certificate', body);

/** What the signature of an agent covers. */
export const certifiedStatement = (statement: Uint8Array, certificate: Uint8Array): Buffer =>
  Buffer.concat([statement, u32(certificate.length), certificate]);

/** Throws `repository.object-damaged` for what is not this tenant's, `repository.newer-version`. */
export function openCertificate(tenant: Verifier, object: Uint8Array, what: string): AgentCertificate {
  const { certificate, body, signature } = decodeCertificate(object, what);
  if (Buffer.compare(certificate.tenantId, tenant.tenantId) !== 0) throw damaged(what, 'it is of another tenant');
  if (!tenant.verify(tenant.signer, signedCertificate(body), signature))
    throw damaged(what, 'its signature is not ours');
  return summary(certificate, what);
}

function summary(certificate: CertificateBody, what: string): AgentCertificate {
  const { agentId, name, publicKey, capabilities, notBeforeMs, notAfterMs, issuedBy } = certificate;
  const machines = certificate.machines.map(({ machineId }) => machineOf(machineId, what));
  const mayBackUp = (capabilities & CAPABILITIES.backUp) !== 0;
  return { agentId: hex(agentId), name, publicKey, machines, mayBackUp, notBeforeMs, notAfterMs, issuedBy };
}

function machineOf(text: string, what: string): MachineId {
  try {
    return parseMachineId(text);
  } catch (error) {
    throw damaged(what, `it names a machine ${JSON.stringify(text)}`, error);
  }
}

/** Undefined: nobody of ours signed it. Throws `repository.object-damaged` for a certificate that is not this tenant's. */
export function authorOf(
  tenant: Verifier,
  statement: Uint8Array,
  { signer, signature, certificate: object }: Signed,
  what: string,
): 'tenant' | AgentCertificate | undefined {
  if (object === undefined) return tenant.verify(signer, statement, signature) ? 'tenant' : undefined;
  const certificate = openCertificate(tenant, object, `the certificate in ${what}`);
  const isIts = Buffer.compare(signer, certificate.publicKey) === 0;
  return isIts && tenant.isSignedBy(signer, certifiedStatement(statement, object), signature) ? certificate : undefined;
}
