/**
 * A network of one machine, inside its QEMU: user-mode, restricted.
 *
 *   guest ── card ── netdev (user, restrict=on) ── nothing        DHCP is answered by QEMU itself
 *                        │        └─ hostfwd: 127.0.0.1:port of this host ──► port of the guest, when asked for
 *                        └─ filter-dump ──► pcap: every packet in either direction
 *
 * libvirt 9 can say neither `restrict` nor `filter-dump`, so it is passed to QEMU as arguments. No bridge and no address of this host is
 * needed, and tests that run at the same time cannot meet.
 */
import type { MachineShape } from '../port.ts';

export const NETDEV = 'lifeboat-net';
/** Free on both boards: libvirt fills the low slots, NVMe disks begin at 18, the chipset owns 1f. */
const SLOT = '0x17';
/** Headers, and an answer of the address service whole. */
const CAPTURED_BYTES = 1024;
/** Cards of QEMU by libvirt's names; another is what most systems have a driver for. */
const CARDS: Readonly<Record<string, string>> = {
  virtio: 'virtio-net-pci',
  e1000: 'e1000',
  e1000e: 'e1000e',
  rtl8139: 'rtl8139',
  vmxnet3: 'vmxnet3',
};
const COMMON_CARD = 'e1000';

export type IsolatedNetwork = Extract<MachineShape['network'], { kind: 'isolated' }>;

/** Arguments for QEMU. */
export function isolatedNetworkArguments({ model, capturePath }: IsolatedNetwork, board: 'pc' | 'q35'): string[] {
  const card = CARDS[model] ?? (model.startsWith('virtio') ? CARDS['virtio'] : COMMON_CARD);
  const bus = board === 'pc' ? 'pci.0' : 'pcie.0';
  const dump = {
    'qom-type': 'filter-dump',
    id: 'lifeboat-capture',
    netdev: NETDEV,
    file: capturePath,
    maxlen: CAPTURED_BYTES,
  };
  return [
    '-netdev',
    // IPv6 would need a second address service, and a second look at what is captured.
    `user,id=${NETDEV},restrict=on,ipv6=off`,
    '-object',
    JSON.stringify(dump),
    '-device',
    // Without its ROM: a boot from the network costs seconds at each start.
    JSON.stringify({ driver: card, netdev: NETDEV, bus, addr: SLOT, romfile: '' }),
  ];
}
