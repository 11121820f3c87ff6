/**
 * Runs what exports/*.json declares, and outlives everybody who declared it.
 *
 *   declared, nothing runs ──► start ──► greets ──► ready
 *        ▲                       │
 *        └── back-off ◄── died ◄─┘        not declared, something runs ──► TERM ──► KILL ──► files removed
 *
 *   supervisor ── keeper (a shell: lock on <name>.run, writes <name>.pid, waits) ── program
 *
 * The keeper takes the lock before it starts the program, and both hold it for life. So whatever kills the supervisor at
 * whatever moment, one export never runs twice: the next supervisor finds the lock held and adopts the process, or
 * finds it free and starts one.
 *
 * Neither dies with the supervisor, on purpose: a guest runs from them. That is also what the keeper is for: nbdkit
 * 1.32 ends when its parent does, also without --exit-with-parent (seen: it calls PR_SET_PDEATHSIG at every start), and its
 * parent is the keeper. Under systemd the supervisor's unit needs KillMode=process.
 */
import { watch } from 'node:fs';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { exportsDirectory, names, supervisorLockPath } from './exports.ts';
import { takeLock } from './file-lock.ts';
import { SupervisedExport, type SupervisorDeps } from './supervised-export.ts';

/** A predecessor killed while it was starting a process: that holds its files for the moment between fork and exec. */
const LOCK_WAIT_MS = 2000;
/** Between looks at everything. New wishes are seen at once; this bounds how late a death is seen. */
const SCAN_MS = 500;
/** While something starts or stops. */
const QUICK_SCAN_MS = 50;

export interface SupervisorOptions extends SupervisorDeps {
  /** Ends the supervisor, and only it: what it runs goes on. */
  readonly signal: AbortSignal;
}

/** Runs until `signal`. Errors: `host.supervisor-running` if this host has one. */
export async function runSupervisor(options: SupervisorOptions): Promise<void> {
  const { stateRoot, log, clock, signal } = options;
  const lock = await takeLock(supervisorLockPath(stateRoot), { waitMs: LOCK_WAIT_MS, signal });
  if (lock === undefined)
    throw new LifeboatError('host.supervisor-running', `A supervisor runs for ${stateRoot} already`);
  let wake = Promise.withResolvers<void>();
  const watcher = watch(exportsDirectory(stateRoot), (_event, file) => {
    if (file?.endsWith('.json') === true) wake.resolve(); // the rest is written by ourselves
  });
  watcher.on('error', (error) =>
    log.warn('cannot watch for declarations; looking twice a second', { error: error.message }),
  );
  try {
    const running = new Map<string, SupervisedExport>();
    while (!signal.aborted) {
      const settled = await scan(options, running);
      await Promise.race([wake.promise, pause(clock, settled ? SCAN_MS : QUICK_SCAN_MS, signal)]);
      wake = Promise.withResolvers();
    }
  } finally {
    watcher.close();
    await lock.release();
  }
}

async function pause(clock: SupervisorDeps['clock'], ms: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(ms, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** One look at everything; false while something starts or stops. */
async function scan(options: SupervisorOptions, supervised: Map<string, SupervisedExport>): Promise<boolean> {
  let settled = true;
  const declared = await names(options.stateRoot, '.json');
  const started = await names(options.stateRoot, '.run');
  for (const name of new Set([...declared, ...started, ...supervised.keys()])) {
    let one = supervised.get(name);
    if (one === undefined) {
      one = new SupervisedExport(name, options);
      supervised.set(name, one);
    }
    try {
      const state = await one.reconcile();
      if (state === 'gone') supervised.delete(name);
      if (state === 'moving') settled = false;
    } catch (error) {
      one.complain(messageOf(error)); // the others go on; this one is tried again at the next look
    }
  }
  return settled;
}
