import { spawn } from 'node:child_process';
import { copyFile, open, readFile, stat, truncate } from 'node:fs/promises';
import type { Clock } from '@lifeboat/foundation/clock';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import { MiB } from '@lifeboat/foundation/units';
import { removeIfThere, writeDurably } from './durable-file.ts';
import {
  exportFiles,
  readDeclaration,
  readExportStatus,
  type ExportDeclaration,
  type ExportStatus,
} from './exports.ts';
import { takeLock } from './file-lock.ts';
import { greets } from './nbd-greeting.ts';
import { identifyProcess, parseStat, signalGroup, stillRuns, type ProcessIdentity } from './process-identity.ts';
import { findProgram, searchPath } from './programs.ts';
import { giveToQemu } from './state.ts';

const STOP_GRACE_MS = 5000;
const FIRST_BACKOFF_MS = 200;
const MAX_BACKOFF_MS = 10_000;
/** One that ran this long was well: the next restart is quick again. */
const WELL_AFTER_MS = 60_000;
const LOG_LIMIT_BYTES = 4 * MiB;
/** A keeper that was just started or is about to end holds the lock without a process to show. */
const KEEPER_LIMIT_MS = 5000;
const PID_FILE_POLL_MS = 10;

// $0 is <name>.pid, 3 <name>.run, and with it the lock; 73: somebody has it. What a dead one left is removed under the lock
// only: a keeper of a supervisor that was killed may just be about to take it, and files of its program are no leftovers. A signal to the group is the program's to obey: the keeper
// handles it with nothing, so as to wait on (an ignored signal would be ignored by the program, too).
const KEEPER = `
flock -xn 3 || exit 73
rm -f -- "$0" "$1"
shift
trap : TERM
"$@" &
read -r stat </proc/$!/stat
printf '%s\\n' "$stat" >"$0"
while kill -0 $! 2>/dev/null; do wait $!; code=$?; done
exit $code`;

export interface SupervisorDeps {
  readonly stateRoot: string;
  readonly log: Log;
  readonly clock: Clock;
}

interface Started {
  readonly identity: ProcessIdentity;
  /** The keeper's; signals go to both. */
  readonly groupId: number;
}

/** One export: what is known about its process, and the step from what is to what should be. */
export class SupervisedExport {
  readonly #name: string;
  readonly #deps: SupervisorDeps;
  #process: ProcessIdentity | undefined;
  #groupId = 0;
  #heldSinceMs: number | undefined;
  #ready = false;
  #restarts = -1;
  #lastExit: string | undefined;
  #startedAtMs = 0;
  #backoffMs = 0;
  #nextStartMs = 0;
  #stopSinceMs: number | undefined;
  #complaint: string | undefined;

  constructor(name: string, deps: SupervisorDeps) {
    this.#name = name;
    this.#deps = deps;
  }

  /** One step from what is to what should be. */
  async reconcile(): Promise<'settled' | 'moving' | 'gone'> {
    const { stateRoot, clock } = this.#deps;
    const declaration = await readDeclaration(stateRoot, this.#name); // damaged: throws, and what runs goes on
    if (!(await this.#look())) return 'moving';
    if (declaration === undefined) return this.#stop();
    this.#stopSinceMs = undefined;
    if (this.#process === undefined) {
      if (clock.monotonicMs() >= this.#nextStartMs) await this.#start(declaration);
    } else if (!this.#ready && (await greets(declaration.socketPath))) {
      if (declaration.socketForQemu) await giveToQemu(declaration.socketPath);
      this.#ready = true;
      await this.#writeStatus();
      this.#deps.log.info('export is ready', { name: this.#name, pid: this.#process.pid, restarts: this.#restarts });
    }
    await this.#capLog();
    this.#complaint = undefined;
    return this.#process !== undefined && !this.#ready ? 'moving' : 'settled';
  }

  /** Says a problem once, not twice a second. */
  complain(problem: string): void {
    if (problem !== this.#complaint) this.#deps.log.error('export has a problem', { name: this.#name, problem });
    this.#complaint = problem;
  }

  get #files() {
    return exportFiles(this.#deps.stateRoot, this.#name);
  }

  /**
   * Finds out whether it runs: what we know of may have died, and what we do not know of may be adopted. False while a
   * keeper begins or ends and nothing can be said.
   */
  async #look(): Promise<boolean> {
    const { clock, log, stateRoot } = this.#deps;
    if (this.#process !== undefined) {
      if (!(await stillRuns(this.#process))) this.#noteDeath(this.#process);
      return true;
    }
    if (!(await this.#isHeld())) {
      this.#heldSinceMs = undefined;
      return true;
    }
    const adopted = await this.#recordedProcess();
    if (adopted === undefined) {
      this.#heldSinceMs ??= clock.monotonicMs();
      if (clock.monotonicMs() - this.#heldSinceMs < KEEPER_LIMIT_MS) return false;
      const problem = `${this.#files.run} is locked, but what was started is gone: a child of it holds the lock`;
      throw new LifeboatError('host.child-stuck', problem, { context: { name: this.#name } });
    }
    const before = await readExportStatus(stateRoot, this.#name);
    this.#take(adopted);
    this.#ready = before?.ready === true && before.process?.startTime === adopted.identity.startTime;
    this.#restarts = before?.restarts ?? 0;
    this.#lastExit = before?.lastExit;
    log.info('export adopted', { name: this.#name, pid: adopted.identity.pid });
    return true;
  }

  #noteDeath({ pid }: ProcessIdentity): void {
    const { clock, log } = this.#deps;
    const nowMs = clock.monotonicMs();
    const wasWell = nowMs - this.#startedAtMs >= WELL_AFTER_MS;
    this.#backoffMs = wasWell
      ? FIRST_BACKOFF_MS
      : Math.min(MAX_BACKOFF_MS, Math.max(FIRST_BACKOFF_MS, this.#backoffMs * 2));
    this.#nextStartMs = nowMs + this.#backoffMs;
    this.#process = undefined;
    this.#ready = false;
    log.warn('export ended', { name: this.#name, pid, backoffMs: this.#backoffMs });
  }

  async #isHeld(): Promise<boolean> {
    if (!(await exists(this.#files.run))) return false;
    const lock = await takeLock(this.#files.run, { waitMs: 0 });
    await lock?.release();
    return lock === undefined;
  }

  /** What the keeper wrote, if that still runs. */
  async #recordedProcess(): Promise<Started | undefined> {
    let text: string;
    try {
      text = await readFile(this.#files.pid, 'utf8');
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw error;
    }
    const recorded = parseStat(text);
    const identity = recorded && (await identifyProcess(recorded.pid));
    return recorded !== undefined && identity?.startTime === recorded.startTime
      ? { identity, groupId: recorded.groupId }
      : undefined;
  }

  #take({ identity, groupId }: Started): void {
    this.#process = identity;
    this.#groupId = groupId;
    this.#heldSinceMs = undefined;
    this.#startedAtMs = this.#deps.clock.monotonicMs();
  }

  async #start({ command, args, socketPath }: ExportDeclaration): Promise<void> {
    const { clock } = this.#deps;
    const program = await findProgram(command, process.env);
    if (this.#restarts < 0) await this.#recallRestarts();
    const ended = await this.#spawnKeeper([socketPath, program, ...args]);
    this.#restarts += 1;
    const deadlineMs = clock.monotonicMs() + KEEPER_LIMIT_MS;
    for (;;) {
      const started = await this.#recordedProcess();
      if (started !== undefined) {
        this.#take(started);
        return this.#writeStatus();
      }
      // It ended before we could look, or has not begun: the next look will tell, not before the pause for a failed start.
      if (ended() || clock.monotonicMs() > deadlineMs) break;
      await clock.sleep(PID_FILE_POLL_MS);
    }
    this.#backoffMs = Math.min(MAX_BACKOFF_MS, Math.max(FIRST_BACKOFF_MS, this.#backoffMs * 2));
    this.#nextStartMs = clock.monotonicMs() + this.#backoffMs;
    await this.#writeStatus();
    this.#deps.log.warn('export ended at once', {
      name: this.#name,
      how: this.#lastExit,
      backoffMs: this.#backoffMs,
    });
  }

  /** Resolves once the keeper runs, with a way to ask whether it has ended. */
  async #spawnKeeper(socketAndProgram: readonly string[]): Promise<() => boolean> {
    const run = await open(this.#files.run, 'a', 0o600);
    const output = await open(this.#files.log, 'a', 0o600);
    try {
      const keeper = spawn('sh', ['-c', KEEPER, this.#files.pid, ...socketAndProgram], {
        cwd: '/',
        detached: true,
        env: { PATH: searchPath(process.env), LC_ALL: 'C' },
        stdio: ['ignore', output.fd, output.fd, run.fd],
      });
      keeper.unref();
      let over = false;
      keeper.once('exit', (code, signal) => {
        over = true;
        // A shell passes a program's death by signal n on as 128 + n.
        this.#lastExit =
          signal !== null
            ? `keeper ended by ${signal}`
            : (code ?? 0) > 128
              ? `signal ${(code ?? 0) - 128}`
              : `exit code ${code}`;
      });
      await new Promise<void>((resolve, reject) => {
        keeper.once('spawn', resolve);
        keeper.once('error', reject);
      });
      return () => over;
    } finally {
      await run.close();
      await output.close();
    }
  }

  /** The count goes on where an earlier supervisor left it. */
  async #recallRestarts(): Promise<void> {
    const before = await readExportStatus(this.#deps.stateRoot, this.#name);
    if (before === undefined) return;
    this.#restarts = before.restarts;
    this.#lastExit = 'ended while no supervisor ran';
  }

  async #stop(): Promise<'moving' | 'gone'> {
    const { clock, log } = this.#deps;
    if (this.#process !== undefined) {
      const { pid } = this.#process;
      if (this.#stopSinceMs === undefined) {
        this.#stopSinceMs = clock.monotonicMs();
        log.info('export withdrawn; stopping it', { name: this.#name, pid });
        signalGroup(this.#groupId, 'SIGTERM');
      } else if (clock.monotonicMs() - this.#stopSinceMs > STOP_GRACE_MS) {
        signalGroup(this.#groupId, 'SIGKILL');
      }
      return 'moving';
    }
    const { pid, status, log: output, run } = this.#files;
    for (const path of [pid, status, output, `${output}.1`, run]) await removeIfThere(path);
    return 'gone';
  }

  async #writeStatus(): Promise<void> {
    const status: ExportStatus = {
      process: this.#process,
      ready: this.#ready,
      restarts: this.#restarts,
      lastExit: this.#lastExit,
    };
    await writeDurably(this.#files.status, JSON.stringify(status));
  }

  /** The program appends, so the file can be cut under it; a few lines written between copy and cut are lost. */
  async #capLog(): Promise<void> {
    const { log } = this.#files;
    if (!(await exists(log)) || (await stat(log)).size <= LOG_LIMIT_BYTES / 2) return;
    await copyFile(log, `${log}.1`);
    await truncate(log);
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}
