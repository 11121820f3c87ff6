/**
 * What should be served on this host, as files: the side of those who want it. The supervisor is the other side.
 *
 *   exports/<name>.json     what to run; its presence is the wish (declareExport, withdrawExport)
 *   exports/<name>.status   what the supervisor made of it
 *   exports/<name>.run      locked by the running process itself     .pid  written by it before it is the program
 *   exports/<name>.log      what it printed                          .log.1  the older part
 *
 * A wish outlives its author: an agent that dies does not take a guest's disk with it.
 */
import { readdir } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError, hasCode } from '@lifeboat/foundation/errors';
import { parseOpId, type HostId, type OpId } from '@lifeboat/foundation/ids';
import { createDurably, readRecord, removeIfThere, syncDirectory } from './durable-file.ts';
import { takeLock } from './file-lock.ts';
import { parseProcessIdentity, stillRuns, type ProcessIdentity } from './process-identity.ts';
import type { Reapable } from './reapable.ts';
import { assertSocketPath } from './socket-path.ts';

const FORMAT = 1;
const POLL_MS = 50;
/** Longer than the supervisor gives a process to end by itself. */
const WITHDRAW_LIMIT_MS = 20_000;
const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;

export interface ExportDeclaration {
  /** Unique on the host, for example `<opId>-vda`. Letters, digits and `-`. */
  readonly name: string;
  /** The operation it belongs to: the reaper withdraws it with the operation. */
  readonly opId: OpId;
  readonly command: string;
  readonly args: readonly string[];
  /** Where it serves NBD: ready is when a server greets there. A stale socket there is removed before the start. */
  readonly socketPath: string;
  /** Make QEMU's account the owner of the socket, so that a guest can run from it. */
  readonly socketForQemu: boolean;
}

export interface ExportStatus {
  /** Undefined while nothing runs: it could not be started, or waits to be started again. */
  readonly process: ProcessIdentity | undefined;
  readonly ready: boolean;
  /** Starts after the first. */
  readonly restarts: number;
  /** Why it was last started again, in a few words. */
  readonly lastExit: string | undefined;
}

export const exportsDirectory = (stateRoot: string): string => join(stateRoot, 'exports');
export const supervisorLockPath = (stateRoot: string): string => join(exportsDirectory(stateRoot), 'supervisor.lock');

export interface ExportFiles {
  readonly declaration: string;
  readonly status: string;
  readonly run: string;
  readonly pid: string;
  readonly log: string;
}

export function exportFiles(stateRoot: string, name: string): ExportFiles {
  const file = (suffix: string): string => join(exportsDirectory(stateRoot), `${name}${suffix}`);
  return {
    declaration: file('.json'),
    status: file('.status'),
    run: file('.run'),
    pid: file('.pid'),
    log: file('.log'),
  };
}

/**
 * Declares what should run, durably. Declaring the same again changes nothing.
 * Errors: `host.export-conflict` if the name stands for something else, `input.invalid`, `host.path-too-long`.
 */
export async function declareExport(stateRoot: string, declaration: ExportDeclaration): Promise<void> {
  const { name, command, socketPath } = declaration;
  if (!NAME.test(name)) throw new LifeboatError('input.invalid', `'${name}' is not a name for an export`);
  if (command === '' || !isAbsolute(socketPath)) {
    throw new LifeboatError(
      'input.invalid',
      `The export ${name} needs a command and an absolute socket path, not '${command}' and '${socketPath}'`,
    );
  }
  assertSocketPath(socketPath);
  const { declaration: path } = exportFiles(stateRoot, name);
  if (await createDurably(path, JSON.stringify({ format: FORMAT, ...declaration }))) return;
  const existing = await readDeclaration(stateRoot, name);
  if (existing === undefined) return declareExport(stateRoot, declaration); // withdrawn meanwhile
  if (!isDeepStrictEqual(existing, { ...declaration })) {
    throw new LifeboatError(
      'host.export-conflict',
      `The export ${name} is declared by operation ${existing.opId} with other contents`,
      {
        context: { name, opId: existing.opId },
      },
    );
  }
}

/**
 * Takes the wish back and waits until nothing runs for it any more. One that is not declared is fine.
 * Errors: `host.export-not-stopped` (transient): the wish is taken back all the same.
 * Not guaranteed: that a supervisor which is about to start it at this very moment is waited for; it stops it itself.
 */
export async function withdrawExport(
  stateRoot: string,
  name: string,
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  const files = exportFiles(stateRoot, name);
  await removeIfThere(files.declaration);
  await syncDirectory(exportsDirectory(stateRoot));
  const gone = await poll(
    WITHDRAW_LIMIT_MS,
    options.signal,
    async () => !(await names(stateRoot, '.run')).includes(name),
  );
  if (!gone) {
    throw new LifeboatError(
      'host.export-not-stopped',
      `The export ${name} still runs ${WITHDRAW_LIMIT_MS} ms after it was withdrawn; ${await supervisorState(stateRoot)}`,
      { context: { name } },
    );
  }
}

/** Waits until the export answers; its `process` is then known. Errors: `host.export-not-ready` (transient), with what is known about why. */
export async function waitExportReady(
  stateRoot: string,
  name: string,
  options: { timeoutMs: number; signal?: AbortSignal },
): Promise<ExportStatus> {
  let status: ExportStatus | undefined;
  const ready = await poll(options.timeoutMs, options.signal, async () => {
    status = await readExportStatus(stateRoot, name);
    return status?.ready === true && status.process !== undefined && (await stillRuns(status.process));
  });
  if (ready && status !== undefined) return status;
  const known =
    status === undefined
      ? 'it was not started'
      : `restarts: ${status.restarts}${status.lastExit === undefined ? '' : `, last: ${status.lastExit}`}`;
  throw new LifeboatError(
    'host.export-not-ready',
    `The export ${name} was not ready within ${options.timeoutMs} ms: ${known}; ${await supervisorState(stateRoot)}`,
    { context: { name, timeoutMs: options.timeoutMs } },
  );
}

/** What the supervisor last wrote; undefined if it never started the export. */
export async function readExportStatus(stateRoot: string, name: string): Promise<ExportStatus | undefined> {
  const value = (await readRecord(exportFiles(stateRoot, name).status)) as Partial<ExportStatus> | null | undefined;
  if (value === undefined || value === null) return undefined;
  const restarts = Number.isSafeInteger(value.restarts) ? (value.restarts as number) : 0;
  const lastExit = typeof value.lastExit === 'string' ? value.lastExit : undefined;
  return { process: parseProcessIdentity(value.process), ready: value.ready === true, restarts, lastExit };
}

/** Errors: `host.record-damaged`. */
export async function readDeclaration(stateRoot: string, name: string): Promise<ExportDeclaration | undefined> {
  const path = exportFiles(stateRoot, name).declaration;
  const value = await readRecord(path);
  if (value === undefined) return undefined;
  const { format, ...declaration } = (typeof value === 'object' && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const { opId, command, args, socketPath, socketForQemu } = declaration;
  const sound =
    format === FORMAT &&
    declaration['name'] === name &&
    typeof opId === 'string' &&
    typeof command === 'string' &&
    Array.isArray(args) &&
    args.every((arg) => typeof arg === 'string') &&
    typeof socketPath === 'string' &&
    typeof socketForQemu === 'boolean';
  if (!sound)
    throw new LifeboatError('host.record-damaged', `${path} does not declare the export ${name}`, {
      context: { path },
    });
  return declaration as unknown as ExportDeclaration;
}

/** Names for which a file with this suffix exists. */
export async function names(stateRoot: string, suffix: '.json' | '.run'): Promise<string[]> {
  const files = await readdir(exportsDirectory(stateRoot));
  return files
    .filter((file) => file.endsWith(suffix))
    .map((file) => file.slice(0, -suffix.length))
    .filter((name) => NAME.test(name))
    .sort();
}

/** Exports as the reaper sees them. Goes after the domains that run from them. */
export function reapableExports(stateRoot: string, hostId: HostId): Reapable {
  return {
    async list() {
      const items = [];
      for (const name of await names(stateRoot, '.json')) {
        const declaration = await declarationIfSound(stateRoot, name);
        if (declaration !== undefined) items.push({ kind: 'export', name, opId: parseOpId(declaration.opId), hostId });
      }
      return items;
    },
    remove: ({ name }) => withdrawExport(stateRoot, name),
  };
}

/** A damaged declaration has no owner to reap it with; the supervisor says so in its log, and a guest may depend on it. */
async function declarationIfSound(stateRoot: string, name: string): Promise<ExportDeclaration | undefined> {
  try {
    return await readDeclaration(stateRoot, name);
  } catch (error) {
    if (hasCode(error, 'host.record-damaged')) return undefined;
    throw error;
  }
}

async function supervisorState(stateRoot: string): Promise<string> {
  const lock = await takeLock(supervisorLockPath(stateRoot), { waitMs: 0 });
  await lock?.release();
  return lock === undefined ? 'the supervisor runs' : 'no supervisor runs on this host';
}

async function poll(limitMs: number, signal: AbortSignal | undefined, done: () => Promise<boolean>): Promise<boolean> {
  const deadlineMs = systemClock.monotonicMs() + limitMs;
  for (;;) {
    if (await done()) return true;
    if (systemClock.monotonicMs() >= deadlineMs) return false;
    await systemClock.sleep(POLL_MS, signal);
  }
}
