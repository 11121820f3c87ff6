/** Policies, holds and pruning of one open repository; what each promises is said where it is made. */
import type { StoreOptions } from '../store/object-store.ts';
import type { Act } from '../format/ledger-entry.ts';
import { approve, carryOutDue, perform, withdraw, type ActDeps, type ActOutcome } from './acts.ts';
import { readLedger } from './ledger.ts';
import type { LedgerState } from './ledger-state.ts';
import { planPrune, prune, type PruneKnowledge, type PrunePlan } from './prune-plan.ts';

export class Retention {
  readonly #deps: ActDeps;

  constructor(deps: ActDeps) {
    this.#deps = deps;
  }

  async state(options: StoreOptions = {}): Promise<LedgerState> {
    return (await readLedger(this.#deps.core, options)).state;
  }

  /** Does what changes retention, or asks for it where the repository is guarded. */
  perform(what: { readonly act: Act; readonly reason: string }, options: StoreOptions = {}): Promise<ActOutcome> {
    return perform(this.#deps, what, options);
  }

  approve(what: { readonly request: number; readonly reason: string }, options: StoreOptions = {}): Promise<void> {
    return approve(this.#deps, what, options);
  }

  withdraw(what: { readonly request: number; readonly reason: string }, options: StoreOptions = {}): Promise<void> {
    return withdraw(this.#deps, what, options);
  }

  /** Carries out the requests that are due; returns their numbers. */
  carryOutDue(options: StoreOptions = {}): Promise<number[]> {
    return carryOutDue(this.#deps, options);
  }

  /** What `prune` would let go of, and why it keeps the rest. */
  plan(knowledge: PruneKnowledge = {}, options: StoreOptions = {}): Promise<PrunePlan> {
    return planPrune(this.#deps.core, knowledge, options);
  }

  /** Lets go of what the policies do not keep; a collection then takes the bytes. */
  prune(knowledge: PruneKnowledge = {}, options: StoreOptions = {}): Promise<PrunePlan> {
    return prune(this.#deps.core, knowledge, options);
  }
}
