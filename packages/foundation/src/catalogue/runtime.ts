import type { Catalogue } from './entry.ts';

/** The stack: Temporal, worker and agent, as the commands meet them. */
export const runtimeErrors = {
  'temporal.no-answer': {
    retry: 'transient',
    cause: 'No worker or agent took the task in time, or the one that took it stopped reporting.',
    impact: 'The operation stopped and what it had begun is undone; recovery points are not affected.',
    next: 'See whether the worker and the agent run (lifeboat up shows it), look into their logs under <state>/stack, then start the operation again.',
  },
  'stack.not-ready': {
    retry: 'transient',
    cause: 'A process of the embedded stack (Temporal, worker or agent) did not come up in time.',
    impact: 'Nothing was started; what had come up was stopped again.',
    next: 'Read the log file named in the message; a busy machine may only need another try.',
  },
  'stack.process-ended': {
    retry: 'transient',
    cause: 'A process of the embedded stack ended although nobody asked it to.',
    impact: 'The operation in flight goes on when the stack is started again; recovery points are not affected.',
    next: 'Read the log file named in the message, then run the command again.',
  },
  'stack.in-use': {
    retry: 'permanent',
    cause: 'Another lifeboat process owns the embedded stack of this state directory.',
    impact: 'Nothing was started; the stack that runs is not affected.',
    next: 'Use it: every command finds it by itself. To have another one beside it, set LIFEBOAT_STATE to another directory.',
  },
  'demo.guest-not-started': {
    retry: 'transient',
    cause: 'The demo guest did not reach its boot marker, or its guest agent did not answer, in the time given.',
    impact: 'The demo stopped and removed what it had made; nothing outside its own directory is affected.',
    next: 'Look at the console log named in the message; on a busy machine without KVM, run the demo again when it is calmer.',
  },
  'demo.guest-not-built': {
    retry: 'transient',
    cause: 'The script that builds the demo guest failed: usually a package download, a missing tool or no space.',
    impact: 'The demo could not begin; nothing was changed.',
    next: 'Read the last lines of the build log named in the message, mend what they name, and run the demo again: finished steps come from the cache.',
  },
  'demo.not-removed': {
    retry: 'transient',
    cause: 'A machine, an operation or a file of a demo run could not be removed: mostly libvirt did not answer.',
    impact:
      'What the run made is still there, in its own directory and under its own name; nothing of yours is affected.',
    next: 'See that libvirt runs, then run "lifeboat demo --clean"; it tries again.',
  },
} as const satisfies Catalogue;
