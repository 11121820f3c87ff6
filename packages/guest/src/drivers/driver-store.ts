/**
 * Driver packages that an operator brought, kept for the day they are needed.
 *
 *   <root>/signing.key            Ed25519, PKCS #8 in PEM, mode 0600; made with the first package
 *   <root>/catalogue.json         signed; what it does not name is not used
 *   <root>/packages/<id>/…        files as they were given
 *
 * A package is copied beside, then renamed, then named by a new catalogue: what was killed in between is not there, and goes with the next
 * change. Two that change the store at once wait for each other.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';
import { createDurably, syncDirectory, writeDurably } from '@lifeboat/host/durable-file';
import { assertLocked, takeLock } from '@lifeboat/host/file-lock';
import {
  openCatalogue,
  signCatalogue,
  signerOf,
  type DriverCatalogue,
  type DriverPackage,
} from './driver-catalogue.ts';
import { hashed, readPackages, type LeftOut } from './read-packages.ts';

const LOCK_WAIT_MS = 60_000;
const MAX_CATALOGUE_BYTES = 256 * MiB;
const EMPTY: DriverCatalogue = { version: 1, packages: [] };

export interface AddReport {
  readonly added: readonly DriverPackage[];
  /** There already, with the same content. */
  readonly known: readonly DriverPackage[];
  readonly leftOut: readonly LeftOut[];
}

export interface PackageDamage {
  readonly packageId: string;
  readonly name: string;
  readonly path: string;
  readonly why: string;
}

export class DriverStore {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  /** Where the files of a package are. */
  directoryOf(packageId: string): string {
    return join(this.#root, 'packages', packageId);
  }

  /** A file of a package as it is now; whoever uses it compares its hash with the catalogue's. Errors: `guest.driver-package-unusable`. */
  async readFile(packageId: string, path: string, { maxBytes }: { maxBytes: number }): Promise<Buffer> {
    const at = join(this.directoryOf(packageId), path);
    const unusable = (problem: string, cause?: unknown): LifeboatError =>
      new LifeboatError('guest.driver-package-unusable', `${at} ${problem}`, { cause, context: { path: at } });
    try {
      const { size } = await stat(at);
      if (size > maxBytes) throw unusable(`holds ${size} bytes; at most ${maxBytes} are read`);
      return await readFile(at);
    } catch (error) {
      const code = systemCode(error);
      if (code === undefined) throw error;
      throw unusable(code === 'ENOENT' ? 'is not there' : `cannot be read (${code})`, error);
    }
  }

  /** The packages, proven by the signature. Errors: `guest.driver-catalogue-invalid`. */
  async packages(): Promise<readonly DriverPackage[]> {
    return (await this.#catalogue()).packages;
  }

  /** 64 hexadecimal digits; undefined before the first package. */
  async signer(): Promise<string | undefined> {
    const key = await this.#key();
    return key && signerOf(key);
  }

  /**
   * `path`: a folder or an archive, see `readPackages`. Errors: its own, `guest.driver-catalogue-invalid`, `host.operation-busy`; the system's
   * (`ENOSPC`). Nothing is in the catalogue then that was not before.
   */
  async add(
    path: string,
    { licence, nowMs, signal }: { licence?: string; nowMs: number; signal: AbortSignal },
  ): Promise<AddReport> {
    await mkdir(join(this.#root, 'packages'), { recursive: true, mode: 0o700 });
    const lock = await takeLock(join(this.#root, 'lock'), { waitMs: LOCK_WAIT_MS, signal });
    assertLocked(lock, this.#root, LOCK_WAIT_MS);
    try {
      await this.#removeUnfinished();
      const before = await this.#catalogue();
      const unpackTo = await mkdtemp(join(this.#root, 'unfinished-'));
      const { found, leftOut } = await readPackages(path, { unpackTo, signal });
      const known = before.packages.filter(({ id }) => found.some(({ content }) => content.id === id));
      const fresh = found.filter(({ content }) => !known.some(({ id }) => id === content.id));
      const added: DriverPackage[] = [];
      for (const { directory, content } of fresh) {
        signal.throwIfAborted();
        if (added.some(({ id }) => id === content.id)) continue;
        await this.#copy(directory, content);
        added.push({ ...content, source: path, addedMs: nowMs, ...(licence === undefined ? {} : { licence }) });
      }
      await syncDirectory(join(this.#root, 'packages'));
      const key = (await this.#key()) ?? (await this.#makeKey());
      await writeDurably(
        this.#cataloguePath(),
        signCatalogue({ version: 1, packages: [...before.packages, ...added] }, key),
      );
      return { added, known, leftOut };
    } finally {
      await this.#removeUnfinished();
      await lock.release();
    }
  }

  /** Every file hashed anew. */
  async verify(signal: AbortSignal): Promise<{ packages: number; files: number; damage: PackageDamage[] }> {
    const damage: PackageDamage[] = [];
    const packages = await this.packages();
    let files = 0;
    for (const { id, name, files: expected } of packages) {
      for (const file of expected) {
        signal.throwIfAborted();
        files++;
        const why = await this.#differs(id, file);
        if (why !== undefined) damage.push({ packageId: id, name, path: file.path, why });
      }
    }
    return { packages: packages.length, files, damage };
  }

  async #differs(id: string, file: { path: string; sha256: string }): Promise<string | undefined> {
    try {
      const { sha256 } = await hashed(this.directoryOf(id), file.path);
      return sha256 === file.sha256 ? undefined : `its SHA-256 is ${sha256}, not ${file.sha256}`;
    } catch (error) {
      const code = systemCode(error);
      if (code === undefined) throw error;
      return code === 'ENOENT' ? 'it is not there' : `it cannot be read (${code})`;
    }
  }

  /** Copied and hashed again: what is in the catalogue is what is in the store. */
  async #copy(from: string, content: Pick<DriverPackage, 'id' | 'files'>): Promise<void> {
    const unfinished = await mkdtemp(join(this.#root, 'unfinished-'));
    for (const { path, sha256 } of content.files) {
      const target = join(unfinished, path);
      await mkdir(dirname(target), { recursive: true, mode: 0o700 });
      await copyFile(join(from, path), target);
      if ((await hashed(unfinished, path)).sha256 !== sha256) {
        throw new LifeboatError('guest.driver-package-unusable', `${join(from, path)} changed while it was copied`, {
          context: { path: join(from, path) },
        });
      }
    }
    // One that is there is named by no catalogue: an earlier attempt was killed before it wrote one.
    await rm(this.directoryOf(content.id), { recursive: true, force: true });
    await rename(unfinished, this.directoryOf(content.id));
  }

  async #removeUnfinished(): Promise<void> {
    for (const name of await readdir(this.#root)) {
      if (name.startsWith('unfinished-')) await rm(join(this.#root, name), { recursive: true, force: true });
    }
  }

  #cataloguePath(): string {
    return join(this.#root, 'catalogue.json');
  }

  async #catalogue(): Promise<DriverCatalogue> {
    const path = this.#cataloguePath();
    const invalid = (problem: string): LifeboatError =>
      new LifeboatError('guest.driver-catalogue-invalid', `${path} ${problem}`, { context: { source: path } });
    let text: string;
    try {
      const { size } = await stat(path);
      if (size > MAX_CATALOGUE_BYTES) throw invalid(`holds ${size} bytes; at most ${MAX_CATALOGUE_BYTES} are read`);
      text = await readFile(path, 'utf8');
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return EMPTY;
      throw error;
    }
    const key = await this.#key();
    if (key === undefined) throw invalid('is there, and the key that signed it is not');
    return openCatalogue(text, key, path);
  }

  async #key(): Promise<KeyObject | undefined> {
    const path = join(this.#root, 'signing.key');
    let pem: string;
    try {
      pem = await readFile(path, 'utf8');
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw error;
    }
    try {
      return createPrivateKey(pem);
    } catch (error) {
      throw new LifeboatError('guest.driver-catalogue-invalid', `${path} holds no private key`, {
        cause: error,
        context: { source: path },
      });
    }
  }

  async #makeKey(): Promise<KeyObject> {
    const { privateKey } = generateKeyPairSync('ed25519');
    const path = join(this.#root, 'signing.key');
    await createDurably(path, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
    return privateKey;
  }
}
