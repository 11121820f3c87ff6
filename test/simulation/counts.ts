/** Two files, one a core: 20,000 schedules in CI, 17 ms of processor time each. `npm run soak` runs as many more as wanted. */
export const SCHEDULES_PER_FILE = 10_000;
