import type { Catalogue } from './entry.ts';

export const hostErrors = {
  'host.tool-missing': {
    retry: 'permanent',
    cause: 'A program that Lifeboat runs is not installed on this host, or not where this account may execute it.',
    impact: 'The operation that needs it did not run; nothing was changed.',
    next: 'Install the Debian package the message names (apt-get install …), then start the operation again.',
  },
  'host.tool-failed': {
    retry: 'permanent',
    cause: 'A program that Lifeboat runs ended with an error. The end of what it printed is in the message.',
    impact:
      'The operation stopped at this step and undid what it had begun; committed recovery points are not affected.',
    next: 'Read what the program says in the message, mend that on the host, then start the operation again.',
  },
  'host.tool-timeout': {
    retry: 'transient',
    cause:
      'A program that Lifeboat runs did not end in the time it was given: the host is overloaded, or storage hangs.',
    impact: 'The program was killed and the operation stopped; committed recovery points are not affected.',
    next: 'Look at the load and the storage of the host, then start the operation again.',
  },
  'host.tool-output-too-big': {
    retry: 'permanent',
    cause: 'A program printed more than Lifeboat takes from it, as happens with a damaged or hostile image.',
    impact: 'The program was killed and its answer was not used.',
    next: 'Check the image or device the message names; if it is sound, report the message.',
  },
  'host.child-stuck': {
    retry: 'transient',
    cause:
      'A process does not end although it was killed: it hangs inside the kernel, mostly on storage that does not answer.',
    impact: 'What it holds (a device, a mount, a file) stays in use until it ends.',
    next: 'Find the storage it waits for (cat /proc/<pid>/stack) and bring it back, or restart the host; then start the operation again.',
  },
  'host.record-damaged': {
    retry: 'permanent',
    cause:
      'A small file in which Lifeboat notes what it did on this host cannot be read. A failing disk or an edit by hand does this.',
    impact:
      'The operation it belongs to does not go on, and nothing of it is removed, so that nothing is removed by mistake.',
    next: 'Look at the file the message names. If what it stands for no longer exists, remove the operation directory and start again.',
  },
} as const satisfies Catalogue;
