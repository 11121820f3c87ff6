/** Two files, one a core; 26 ms of processor time each. `npm run soak` runs as many more as wanted. */
export const SCHEDULES_PER_FILE = 500;
