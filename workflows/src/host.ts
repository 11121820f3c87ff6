import {
  allHandlersFinished,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  getExternalWorkflowHandle,
  isCancellation,
  log,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { HOST, LEASE_ANSWER } from '@lifeboat/contracts/workflow/host';
import type {
  HostInput,
  HostRegistration,
  HostStatus,
  LeaseAnswer,
  LeaseRelease,
  LeaseRequest,
} from '@lifeboat/contracts/workflow/host';
import { central, hostVerbs } from './activity-proxies.ts';
import { HostState } from './host-state.ts';

const registerSignal = defineSignal<[HostRegistration]>(HOST.register);
const requestSignal = defineSignal<[LeaseRequest]>(HOST.request);
const releaseSignal = defineSignal<[LeaseRelease]>(HOST.release);
const statusQuery = defineQuery<HostStatus>(HOST.status);
const answerSignal = defineSignal<[LeaseAnswer]>(LEASE_ANSWER);

const PACE = { careIntervalMs: 5 * 60_000, continueAfter: 400 };

/**
 * `host/<id>`. Handlers only change the state. Two loops act on it side by side, because care may take minutes where the
 * agent is slow, and grants must not wait for it:
 *   answers: tell holders what was decided,
 *   care:    drop leases whose holder is gone, then let the host's reaper remove what is not live.
 * The live set and its epoch are read in the same instant the reaper is asked: what is granted later has a higher epoch.
 */
export async function Host(input: HostInput): Promise<void> {
  const state = new HostState(input, Date.now());
  const pace = input.pace ?? PACE;
  let handled = 0;
  // Due at the start of every run: an agent may have registered just before it continued as new.
  const care = { due: true, running: false };
  const full = (): boolean => handled >= pace.continueAfter || workflowInfo().continueAsNewSuggested;

  setHandler(statusQuery, () => state.status());
  setHandler(registerSignal, (registration) => {
    handled++;
    care.due = true;
    state.register(registration, Date.now());
  });
  setHandler(requestSignal, (request) => {
    handled++;
    state.request(request, Date.now());
  });
  setHandler(releaseSignal, ({ holder }) => {
    handled++;
    state.release(holder, Date.now());
  });

  const answerHolders = async (): Promise<void> => {
    while (!full() || care.running) {
      const next = state.takeAnswer();
      if (!next) await condition(() => state.hasAnswer || (full() && !care.running));
      else if (!(await tell(next.holder, next.answer))) state.release(next.holder, Date.now());
    }
  };
  const careForHost = async (): Promise<void> => {
    while (!full()) {
      await condition(() => care.due || full(), pace.careIntervalMs);
      if (full()) return;
      care.due = false;
      care.running = true;
      handled++;
      await dropDeadHolders(state);
      if (state.registered) await reap(state);
      care.running = false;
    }
  };
  await Promise.all([answerHolders(), careForHost()]);
  await condition(allHandlersFinished);
  await continueAsNew<typeof Host>({ ...input, state: state.snapshot() });
}

/** False: the holder is gone. */
async function tell(holder: string, answer: LeaseAnswer): Promise<boolean> {
  try {
    await getExternalWorkflowHandle(holder).signal(answerSignal, answer);
    return true;
  } catch (error) {
    if (isCancellation(error)) throw error;
    log.warn('a holder could not be told about its lease; it is dropped', { holder, error });
    return false;
  }
}

async function dropDeadHolders(state: HostState): Promise<void> {
  const workflowIds = state.holders;
  if (workflowIds.length === 0) return;
  try {
    const standings = await central.describeWorkflows({ workflowIds });
    for (const [index, holder] of workflowIds.entries()) {
      if (standings[index] === 'running') continue;
      log.warn('a lease is taken back: its holder is gone', { holder, standing: standings[index] });
      state.release(holder, Date.now());
    }
  } catch (error) {
    if (isCancellation(error)) throw error;
    log.warn('the holders of leases could not be looked up; tried again next round', { error });
  }
}

async function reap(state: HostState): Promise<void> {
  const live = state.liveSet;
  const at = { atMs: Date.now(), epoch: live.epoch };
  try {
    const { removedOps } = await hostVerbs(state.hostId).reap(live);
    state.reaped({ ...at, removedOps: removedOps.length });
    if (removedOps.length > 0) log.info('the reaper removed what nobody owns', { removedOps });
  } catch (error) {
    if (isCancellation(error)) throw error;
    state.reaped({ ...at, removedOps: 0, failure: error instanceof Error ? error.message : String(error) });
    log.warn('the reaper did not run; the next round tries again', { hostId: state.hostId, error });
  }
}
