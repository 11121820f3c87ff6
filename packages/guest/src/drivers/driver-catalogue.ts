/**
 * The catalogue of a store of driver packages: what each holds and for which Windows, signed as a whole (Ed25519), so that nothing in it can be
 * added, changed or taken away by who lacks the key. File contents are not in it, but their SHA-256 are.
 */
import { createPublicKey, sign, verify, type KeyObject } from 'node:crypto';
import { LifeboatError } from '@lifeboat/foundation/errors';

export interface PackagedFile {
  /** Relative, with slashes. */
  readonly path: string;
  readonly sizeBytes: number;
  /** 64 hexadecimal digits. */
  readonly sha256: string;
}

export interface PackagedDriver {
  /** Path of the INF in the package. */
  readonly inf: string;
  readonly provider: string;
  readonly className: string;
  readonly classGuid: string;
  /** `2024-07-12`; `0000-00-00` where the file gives none. */
  readonly date: string;
  readonly version: string;
  /** Catalogue file that the INF names and the package holds; absent: unsigned. Its signature is not checked here. */
  readonly catalogueFile?: string;
  /** `amd64 from 10.0.14393`, sorted. */
  readonly targets: readonly string[];
  /** Without repetition, sorted. */
  readonly ids: readonly string[];
}

export interface DriverPackage {
  /** SHA-256 over paths and contents: the same files are the same package. 64 hexadecimal digits. */
  readonly id: string;
  readonly name: string;
  /** What was given to `drivers add`. */
  readonly source: string;
  readonly addedMs: number;
  readonly licence?: string;
  readonly files: readonly PackagedFile[];
  readonly drivers: readonly PackagedDriver[];
}

export interface DriverCatalogue {
  readonly version: 1;
  readonly packages: readonly DriverPackage[];
}

interface SignedCatalogue {
  readonly catalogue: DriverCatalogue;
  /** Raw public key, 64 hexadecimal digits. */
  readonly signer: string;
  readonly signature: string;
}

/** Signatures of this key mean this and nothing else. */
const CONTEXT = 'lifeboat driver catalogue 1\n';
/** SubjectPublicKeyInfo of Ed25519 is this, then the 32 bytes (RFC 8410). */
const SPKI_PREFIX_BYTES = 12;

export function signCatalogue(catalogue: DriverCatalogue, key: KeyObject): string {
  const signed: SignedCatalogue = {
    catalogue,
    signer: signerOf(key),
    signature: sign(null, bytesOf(catalogue), key).toString('base64'),
  };
  return `${JSON.stringify(signed, null, 1)}\n`;
}

/** `source` names the file in errors. Errors: `guest.driver-catalogue-invalid`. */
export function openCatalogue(text: string, trusted: KeyObject, source: string): DriverCatalogue {
  const refuse = (problem: string, cause?: unknown): never => {
    throw new LifeboatError('guest.driver-catalogue-invalid', `${source} ${problem}`, { cause, context: { source } });
  };
  let signed: SignedCatalogue;
  try {
    signed = JSON.parse(text) as SignedCatalogue;
  } catch (error) {
    return refuse('is not JSON', error);
  }
  const signer = signerOf(trusted);
  if (signed?.signer !== signer) return refuse(`is signed by ${signed?.signer}, not by ${signer}`);
  const { catalogue } = signed;
  const signature = typeof signed.signature === 'string' ? Buffer.from(signed.signature, 'base64') : Buffer.alloc(0);
  // Nothing in it is looked at before it is known to be ours.
  if (catalogue === undefined || !verify(null, bytesOf(catalogue), createPublicKey(trusted), signature)) {
    return refuse('was changed since it was signed');
  }
  if (catalogue.version !== 1) return refuse(`is of version ${String(catalogue.version)}, and only 1 is known here`);
  return catalogue;
}

/** The public part of a key, 64 hexadecimal digits. */
export function signerOf(key: KeyObject): string {
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  return spki.subarray(SPKI_PREFIX_BYTES).toString('hex');
}

/** What JSON makes of the value, whatever the blanks and escapes in the file were. */
function bytesOf(catalogue: DriverCatalogue): Buffer {
  return Buffer.from(CONTEXT + JSON.stringify(catalogue));
}
