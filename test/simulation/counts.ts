/** Two files, one a core. */
export const SCHEDULES_PER_FILE = 10_000;
