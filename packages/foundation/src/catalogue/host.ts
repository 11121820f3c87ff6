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
  'host.image-server-failed': {
    retry: 'transient',
    cause:
      'QEMU could not open or serve a disk image: it is damaged, in use by somebody else, or the host lacks memory. The message holds what QEMU said.',
    impact: 'The image was not served and not changed.',
    next: 'Read what QEMU says in the message; make sure no other program has the image open, then start the operation again.',
  },
  'host.image-server-unclean': {
    retry: 'permanent',
    cause: 'The process that served a disk image died, or could not write everything back before it ended.',
    impact:
      'Writes to that image may be missing, so the image must not be used. Recovery points are never written through it and are not affected.',
    next: 'Look into the log the message names and at memory and disk space of the host, then start the operation again.',
  },
  'host.image-external-reference': {
    retry: 'permanent',
    cause: 'A qcow2 image names another file in its header. Opening it would give the image whatever file it names.',
    impact: 'The image was not opened.',
    next: 'If the image is yours and the file it names is meant, flatten it with qemu-img convert and use the result.',
  },
  'host.image-exists': {
    retry: 'permanent',
    cause: 'A file stands where a new overlay was to be made, left by an earlier attempt or another operation.',
    impact: 'Nothing was overwritten; the operation did not start.',
    next: 'If nothing uses the file named in the message, remove it and start the operation again.',
  },
  'host.fuse-missing': {
    retry: 'permanent',
    cause: 'The kernel of this host has no FUSE, or the container was not given /dev/fuse.',
    impact:
      'Disk images cannot be shown as files here: browsing and offline changes of images do not work on this host.',
    next: 'Load the module (modprobe fuse), or pass /dev/fuse to the container, then start the operation again.',
  },
  'host.path-too-long': {
    retry: 'permanent',
    cause: 'The path of the state directory is so long that a socket in it cannot have a name the kernel takes.',
    impact: 'The operation did not start.',
    next: 'Set LIFEBOAT_STATE to a directory with a shorter path.',
  },
  'host.unmount-lazy': {
    retry: 'permanent',
    cause: 'A mounted filesystem was still in use when it was to be taken away: a program has a file in it open.',
    impact:
      'It is out of sight, but what was written to it may not be on the disk, so an image that was changed through it must not be used.',
    next: 'Find the program that looked into the mount (fuser -vm), end it, then start the operation again.',
  },
  'host.loop-busy': {
    retry: 'transient',
    cause: 'A loop device is held open by another program, mostly one that scans new disks.',
    impact: 'The device stays attached until that program closes it; the operation stopped.',
    next: 'Find the program (fuser -v /dev/loopN), end it, then start the operation again.',
  },
  'host.state-unusable': {
    retry: 'permanent',
    cause: 'The directory for live state is not set, lies inside a source tree, or does not hold what it should.',
    impact: 'No operation starts on this host; what runs already is not touched.',
    next: 'Set LIFEBOAT_STATE to an absolute path outside any source tree that root and QEMU can reach, for example /var/lib/lifeboat.',
  },
  'host.intent-mismatch': {
    retry: 'permanent',
    cause: 'An operation id was used twice for different work.',
    impact: 'The new operation did not start; the one that has the id is not affected.',
    next: 'Start the operation again under a new id. If this repeats, report it together with both values in the message.',
  },
  'host.operation-busy': {
    retry: 'transient',
    cause: 'An earlier attempt at the same operation still runs, in this process or another one on this host.',
    impact: 'This attempt did not start, so nothing runs twice; the earlier attempt goes on.',
    next: 'Wait: it is tried again by itself. If it never ends, find the process (fuser -v on the lock file in the operation directory) and end it.',
  },
  'host.operation-superseded': {
    // Should whoever waits still wait for this very attempt, then another one is what it needs.
    retry: 'transient',
    cause: 'A newer attempt at the same operation was started, as happens after a missed heartbeat.',
    impact: 'This attempt stopped; the newer one goes on with what it had begun.',
    next: 'Nothing: look at the newer attempt.',
  },
  'host.cleanup-failed': {
    retry: 'transient',
    cause: 'Something an operation had made on this host (a process, mount, device or file) could not be taken away.',
    impact: 'It stays until the next clean-up of this host; recovery points are not affected.',
    next: 'Read in the message what is left and what holds it. The host cleans up again by itself; remove by hand only what stays.',
  },
  'host.export-conflict': {
    retry: 'permanent',
    cause: 'Two operations want to serve different things under one name on this host.',
    impact: 'The new export was not declared; the one that has the name goes on.',
    next: 'End the operation the message names, or start the new one again under another id.',
  },
  'host.export-not-ready': {
    retry: 'transient',
    cause:
      'The process that should serve a disk does not answer: its program fails, what it reads from is away, or no supervisor runs.',
    impact: 'The guest that was to run from it was not started. Guests that run already are not affected.',
    next: 'If no supervisor runs, start lifeboat-supervisor. Otherwise read the log of the export in the exports directory of the live state.',
  },
  'host.export-not-stopped': {
    retry: 'transient',
    cause: 'A process that served a disk was to end and has not, mostly because no supervisor runs on this host.',
    impact: 'It goes on serving until a supervisor ends it; nothing new is started for it.',
    next: 'Start lifeboat-supervisor, which ends the process.',
  },
  'host.supervisor-running': {
    retry: 'permanent',
    cause: 'A second supervisor was started for the same live state.',
    impact: 'The second one ended at once; the first goes on and nothing was started twice.',
    next: 'Nothing, if one is enough. To replace the supervisor, end the first one; what it runs goes on meanwhile.',
  },
  'host.stale-epoch': {
    retry: 'permanent',
    cause: 'A clean-up was asked for with a list of live operations older than one this host has seen.',
    impact: 'Nothing was removed, because the old list may not name operations started since.',
    next: 'Nothing: the next clean-up carries a newer list. If this repeats, look whether two control planes manage this host.',
  },
} as const satisfies Catalogue;
