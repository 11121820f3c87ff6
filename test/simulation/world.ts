/**
 * A world that a seed decides: one store, one time, and processes of which one at a time goes one step further.
 *
 * A step is one request of one process. Which is chosen, and what becomes of it (done, failed, done with the answer lost, done much
 * later, its process killed or frozen), follows from the seed. Between two steps only promises run, so nothing else can decide.
 */
import { nextTick } from 'node:process';

import { LifeboatError } from '@lifeboat/foundation/errors';
import type { ByteRange, ObjectInfo, ObjectStore } from '@lifeboat/repository/store/object-store';
import { seededRandom } from '@lifeboat/repository/testing/disks';

import { Objects } from './objects.ts';

const SECOND_MS = 1000;
const DAY_MS = 86_400_000;

export interface Odds {
  readonly kill: number;
  readonly freeze: number;
  readonly fail: number;
  /** Of failed writes: takes effect at once; or some time later. */
  readonly lostAnswer: number;
  readonly late: number;
  /** Of writes that are done: that a copy is still on its way, because the answer took long and the write was sent again. */
  readonly echo: number;
  /** At each step, that one late write takes effect; and that one does whose name was deleted meanwhile. */
  readonly arrive: number;
  readonly haunt: number;
  /** Freezing in front of a put, or of a deletion, where that is more likely than in front of anything. */
  readonly freezePut: number;
  readonly freezeDelete: number;
  readonly hidePoint: number;
}

/** What a request changes: one object. */
interface Change {
  readonly verb: 'put' | 'delete';
  readonly name: string;
}

interface Request {
  readonly process: Process;
  readonly change: Change | undefined;
  readonly act: () => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Everything that was put may be put once more when it was deleted, and who is about to delete something falls asleep. Listings tell the
 * truth here: a session whose `open` comes back is ended a second time, by what a listing says of its points.
 */
export const HAUNTED: Partial<Odds> = {
  kill: 0.002,
  echo: 0.5,
  arrive: 0,
  haunt: 0.5,
  freezeDelete: 0.1,
  hidePoint: 0,
};

export const DROWSY: Partial<Odds> = { ...HAUNTED, freezePut: 0.1 };

/** Something that runs until it ends, is killed, or for ever waits. */
export class Process {
  readonly name: string;
  readonly skewMs: number;
  alive = true;
  frozenUntilStep = 0;
  /** Its requests are done when they are made, and take no turn: it only looks. */
  readonly isOnlooker: boolean;
  readonly onKill: (() => void) | undefined;

  constructor(name: string, skewMs: number, how: { onKill?: (() => void) | undefined; isOnlooker?: boolean } = {}) {
    this.name = name;
    this.skewMs = skewMs;
    this.onKill = how.onKill;
    this.isOnlooker = how.isOnlooker ?? false;
  }
}

export class World {
  readonly objects = new Objects();
  /** Names that listings leave out for a while, although they are there. */
  readonly hidden = new Set<string>();
  readonly random: () => number;
  odds: Odds;
  /** No scheduling any more: every request is done when it is made. */
  immediate = false;
  nowMs = Date.UTC(2026, 0, 1);
  step = 0;
  readonly #pageSize: number;
  readonly #skewed: boolean;
  #requests: Request[] = [];
  #late: { readonly name: string; readonly act: () => unknown }[] = [];
  readonly #deleted = new Set<string>();

  constructor(seed: number) {
    this.random = seededRandom(seed);
    const stormy = this.random() < 0.5 ? 1 : 0.15;
    this.odds = {
      kill: 0.01 * stormy,
      freeze: 0.02 * (this.random() < 0.5 ? 2 : 0.3),
      fail: 0.02 * stormy,
      lostAnswer: 0.4,
      late: 0.3,
      echo: 0,
      arrive: 0.02,
      haunt: 0,
      freezePut: 0,
      freezeDelete: 0,
      hidePoint: this.random() < 0.2 ? 0.01 : 0,
    };
    this.#pageSize = this.random() < 0.3 ? 3 : 1000;
    this.#skewed = this.random() < 0.2;
  }

  below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  pick<T>(items: readonly T[]): T | undefined {
    return items[this.below(items.length)];
  }

  skew(): number {
    return this.#skewed ? (this.random() - 0.5) * 20 * DAY_MS : 0;
  }

  /** Starts an activity. What it throws ends it, and is its own business. */
  start(process: Process, activity: () => Promise<void>): void {
    activity().catch((error: unknown) => {
      if (!(error instanceof LifeboatError) || error.code === 'internal.bug') this.#broken ??= error;
    });
  }

  #broken: unknown;

  request<T>(process: Process, change: Change | undefined, act: () => T): Promise<T> {
    if (this.immediate || process.isOnlooker) return new Promise((resolve) => resolve(act()));
    return new Promise<T>((resolve, reject) => {
      if (process.alive) this.#requests.push({ process, change, act, resolve: resolve as never, reject });
    });
  }

  /** Lets others go first. */
  pause(process: Process): Promise<void> {
    return this.request(process, undefined, () => undefined);
  }

  /** Runs until nobody asks for anything. Throws what a bug of the simulated code throws. */
  async run(maxSteps: number): Promise<void> {
    await settle();
    for (; this.step < maxSteps && this.#requests.length > 0; this.step++) {
      this.#one();
      await settle();
      if (this.#broken !== undefined) throw this.#broken;
    }
    for (const { act } of this.#late.splice(0)) act();
    this.hidden.clear();
  }

  #one(): void {
    const ready = this.#requests.filter(({ process }) => process.frozenUntilStep <= this.step);
    const request = this.pick(ready);
    if (!request) {
      this.step = Math.min(...this.#requests.map(({ process }) => process.frozenUntilStep));
      return;
    }
    this.nowMs += this.below(60 * SECOND_MS) + (this.random() < 0.01 ? this.below(3 * DAY_MS) : 0);
    if (this.#late.length > 0 && this.random() < this.odds.arrive) this.#arrive(this.below(this.#late.length));
    if (this.random() < this.odds.haunt) this.#arrive(this.#late.findIndex(({ name }) => this.#deleted.has(name)));
    if (this.random() < this.odds.hidePoint) this.hidden.clear();
    const { process, change } = request;
    const { freeze, freezePut, freezeDelete } = this.odds;
    const here = { put: freezePut, delete: freezeDelete, none: 0 }[change?.verb ?? 'none'];
    if (this.random() < Math.max(freeze, here)) {
      process.frozenUntilStep = this.step + this.below(this.random() < 0.5 ? 60 : 1500);
      return;
    }
    this.#requests.splice(this.#requests.indexOf(request), 1);
    if (this.random() < this.odds.kill) this.#kill(request);
    else if (this.random() < this.odds.fail) this.#fail(request);
    else {
      if (change?.verb === 'put' && this.random() < this.odds.echo) this.#delay(request);
      finish(request);
      if (change?.verb === 'delete') this.#deleted.add(change.name);
    }
  }

  #delay({ change, act }: Request): void {
    if (change) this.#late.push({ name: change.name, act: () => attempt(act) });
  }

  #arrive(which: number): void {
    if (which >= 0) this.#late.splice(which, 1)[0]?.act();
  }

  #kill(request: Request): void {
    const { process } = request;
    process.alive = false;
    const open = [request, ...this.#requests.filter((other) => other.process === process)];
    this.#requests = this.#requests.filter((other) => other.process !== process);
    for (const other of open) this.#strand(other);
    process.onKill?.();
  }

  #fail(request: Request): void {
    this.#strand(request);
    request.reject(new LifeboatError('repository.store-failed', 'the simulated store did not answer'));
  }

  /** A write nobody hears of any more: done, not done, or done later. */
  #strand(request: Request): void {
    if (!request.change) return;
    const fate = this.random();
    if (fate < this.odds.lostAnswer) attempt(request.act);
    else if (fate < this.odds.lostAnswer + this.odds.late) this.#delay(request);
  }

  /** One page of a listing: names in order, behind `after`. */
  page(prefix: string, after: string): { entries: ObjectInfo[]; isLast: boolean } {
    const entries: ObjectInfo[] = [];
    for (const name of this.objects.names(prefix, after)) {
      if (this.hidden.has(name)) continue;
      if (entries.length === this.#pageSize) return { entries, isLast: false };
      entries.push({ name, sizeBytes: this.objects.get(name)?.length ?? 0 });
    }
    return { entries, isLast: true };
  }
}

function finish(request: Request): void {
  try {
    request.resolve(request.act());
  } catch (error) {
    request.reject(error);
  }
}

function attempt(act: () => unknown): void {
  try {
    act();
  } catch (error) {
    // Nobody listens for the answer.
    if (!(error instanceof LifeboatError)) throw error;
  }
}

/**
 * Until no promise has anything left to do: nothing simulated waits for the outside. Ticks come when all promises have had their turn, and
 * cost a quarter of a turn of the event loop.
 */
function settle(): Promise<void> {
  return new Promise((resolve) => nextTick(resolve));
}

/** The store as one process sees it. */
export function storeOf(world: World, process: Process): ObjectStore {
  const { objects } = world;
  const read = (name: string): Uint8Array => {
    const object = objects.get(name);
    if (object) return object;
    throw new LifeboatError('repository.object-missing', `${name} is not there`, { context: { object: name } });
  };
  const short = (name: string): LifeboatError =>
    new LifeboatError('repository.object-damaged', `${name} is shorter`, { context: { object: name } });
  return {
    description: 'a simulation',
    putIfAbsent(name, parts) {
      const object = new Uint8Array(Buffer.concat(parts));
      return world.request(process, { verb: 'put', name }, () => {
        if (objects.has(name)) return 'exists' as const;
        objects.set(name, object);
        return 'created' as const;
      });
    },
    get: (name) =>
      world.request(process, undefined, () => {
        const object = read(name);
        objects.assertReadable(name, 0, object.length);
        return new Uint8Array(object);
      }),
    getRange: (name, { offsetBytes, lengthBytes, atMost }: ByteRange & { atMost?: boolean }) =>
      world.request(process, undefined, () => {
        const object = read(name);
        if (!atMost && offsetBytes + lengthBytes > object.length) throw short(name);
        objects.assertReadable(name, offsetBytes, offsetBytes + lengthBytes);
        return new Uint8Array(object.subarray(offsetBytes, offsetBytes + lengthBytes));
      }),
    head: (name) =>
      world.request(process, undefined, () => {
        const object = objects.get(name);
        return object && { name, sizeBytes: object.length };
      }),
    async *list(prefix) {
      for (let after = '', isLast = false; !isLast;) {
        const page = await world.request(process, undefined, () => world.page(prefix, after));
        yield* page.entries;
        after = page.entries.at(-1)?.name ?? after;
        ({ isLast } = page);
      }
    },
    delete: (name) => world.request(process, { verb: 'delete', name }, () => objects.delete(name)),
  };
}
