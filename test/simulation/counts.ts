/** Four files, which two cores share out evenly: 20,000 schedules in CI, 20 ms of processor time each. `npm run soak` runs as many more as wanted. */
export const SCHEDULES_PER_FILE = 5_000;
