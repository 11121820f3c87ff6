/**
 * A key management service behind a program: `<program> wrap|unwrap|destroy <key>`, bytes as one line of base64 on stdin and
 * stdout. Exit code 0: done; 2: refused (destroyed, disabled, not allowed); anything else: no answer, ask again later.
 */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import { runTool } from '@lifeboat/host/children';
import type { Kms } from '@lifeboat/repository/seal/kms';

const TIMEOUT_MS = 60_000;
/** 4096 bytes in base64, and a line end. */
const MAX_OUTPUT_BYTES = 8192;
const REFUSED = 2;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}\r?\n?$/;

export class CommandKms implements Kms {
  readonly provider = 'command';
  readonly #program: string;

  constructor(program: string) {
    this.#program = program;
  }

  wrap(keyRef: string, plain: Uint8Array, options?: { signal?: AbortSignal | undefined }): Promise<Uint8Array> {
    return this.#bytes('wrap', keyRef, { bytes: plain, signal: options?.signal });
  }

  unwrap(keyRef: string, wrapped: Uint8Array, options?: { signal?: AbortSignal | undefined }): Promise<Uint8Array> {
    return this.#bytes('unwrap', keyRef, { bytes: wrapped, signal: options?.signal });
  }

  async destroy(keyRef: string, options?: { signal?: AbortSignal | undefined }): Promise<void> {
    await this.#run('destroy', keyRef, { bytes: new Uint8Array(0), signal: options?.signal });
  }

  async #bytes(
    verb: string,
    keyRef: string,
    input: { bytes: Uint8Array; signal: AbortSignal | undefined },
  ): Promise<Uint8Array> {
    const stdout = await this.#run(verb, keyRef, input);
    if (!BASE64.test(stdout)) throw this.#error('repository.kms-refused', `${verb} ${keyRef} gave no line of base64`);
    return Buffer.from(stdout, 'base64');
  }

  async #run(
    verb: string,
    keyRef: string,
    input: { bytes: Uint8Array; signal: AbortSignal | undefined },
  ): Promise<string> {
    if (keyRef.startsWith('-')) throw new LifeboatError('input.invalid', `'${keyRef}' is no name of a key`);
    try {
      const { stdout, stderr, code } = await runTool(this.#program, [verb, keyRef], {
        timeoutMs: TIMEOUT_MS,
        maxOutputBytes: MAX_OUTPUT_BYTES,
        okCodes: [0, REFUSED],
        stdin: `${Buffer.from(input.bytes).toString('base64')}\n`,
        ...(input.signal ? { signal: input.signal } : {}),
      });
      if (code === REFUSED)
        throw this.#error('repository.kms-refused', `${verb} ${keyRef} was refused: ${stderr.trim()}`);
      return stdout;
    } catch (error) {
      if (!hasCode(error, 'host.tool-missing', 'host.tool-failed', 'host.tool-timeout', 'host.tool-output-too-big'))
        throw error;
      throw this.#error('repository.kms-unreachable', error.message, error);
    }
  }

  #error(code: 'repository.kms-refused' | 'repository.kms-unreachable', why: string, cause?: unknown): LifeboatError {
    return new LifeboatError(code, `key service ${this.#program}: ${why}`, { cause });
  }
}
