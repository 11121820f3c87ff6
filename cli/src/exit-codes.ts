/** What the exit status of every command means; scripts may rely on it. */
export const EXIT = {
  /** Done, and what was found is good. */
  done: 0,
  /** The operation failed: it could not be done, or could not be found out. */
  failed: 1,
  /** Wrong usage or input; nothing was started. */
  usage: 2,
  /** Done, and what was found is bad: damage, or a machine that does not start. */
  negative: 3,
  /** Asked for and accepted, but not done: it waits for an approval or for time to pass. */
  requested: 4,
  /** Broken off by Ctrl-C (128 + SIGINT), as shells expect it. */
  interrupted: 130,
  /** Broken off by SIGTERM or a closed terminal (128 + SIGTERM). */
  terminated: 143,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export const EXIT_CODE_HELP = `Exit codes:
  0    done, and the finding is good
  1    the operation failed; the message names the code and the next step
  2    wrong usage or input; nothing was started
  3    done, and the finding is bad: damage, or a machine that does not start
  4    asked for, not done yet: it waits for an approval or for time
  130  broken off by Ctrl-C; what had begun was undone
  143  ended by SIGTERM or a closed terminal; what had begun was undone`;
