import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readPackets } from './packets.ts';
import { capture, dhcp, frame, GUEST, tcp, udp } from './testing/packets.ts';

describe('the packets of an isolated network', () => {
  test('an address counts as given when it is acknowledged, not when it is offered', () => {
    const asked = udp(['0.0.0.0', 68], ['255.255.255.255', 67]);
    expect(readPackets(capture(asked, dhcp(2, GUEST)))).toMatchObject({ packets: 2, attempts: [], answers: [] });
    expect(readPackets(capture(asked, dhcp(2, GUEST)))?.lease).toBeUndefined();
    expect(readPackets(capture(asked, dhcp(2, GUEST), dhcp(5, GUEST)))).toMatchObject({ lease: GUEST });
  });

  test('a port is open when the guest accepted there, not when it was asked or refused', () => {
    const asked = tcp(['10.0.2.2', 40_000], [GUEST, 22], 0x02);
    const refused = tcp([GUEST, 22], ['10.0.2.2', 40_000], 0x14);
    expect(readPackets(capture(asked, refused))?.openPorts).toEqual([]);
    const accepted = tcp([GUEST, 22], ['10.0.2.2', 40_000], 0x12);
    expect(readPackets(capture(asked, accepted, accepted))?.openPorts).toEqual([22]);
  });

  test('where the guest wanted to go is named, also to this host; multicasts are nobody', () => {
    const found = readPackets(
      capture(
        tcp([GUEST, 5000], ['93.184.216.34', 443], 0x02),
        tcp([GUEST, 5001], ['10.0.2.2', 8080], 0x02),
        udp([GUEST, 5002], ['10.0.2.3', 53]),
        udp([GUEST, 5353], ['224.0.0.251', 5353]),
        frame(1, GUEST, '8.8.8.8', Buffer.from([8, 0, 0, 0])),
      ),
    );
    expect(found?.attempts).toEqual(['93.184.216.34 tcp 443', '10.0.2.2 tcp 8080', '10.0.2.3 udp 53', '8.8.8.8 icmp']);
    expect(found?.answers).toEqual([]);
  });

  test('an answer from outside is seen', () => {
    expect(readPackets(capture(tcp(['93.184.216.34', 443], [GUEST, 5000], 0x12)))?.answers).toEqual([
      '93.184.216.34 tcp 443',
    ]);
    expect(readPackets(capture(tcp(['10.0.2.2', 8080], [GUEST, 5001], 0x12)))?.answers).toEqual(['10.0.2.2 tcp 8080']);
    expect(readPackets(capture(udp(['10.0.2.3', 53], [GUEST, 5002])))?.answers).toEqual(['10.0.2.3 udp 53']);
  });

  test('a guest that knocks everywhere is counted, not listed', () => {
    const many = Array.from({ length: 50 }, (_, at) => tcp([GUEST, 1], [`9.9.9.${at}`, 80], 0x02));
    const found = readPackets(capture(...many));
    expect([found?.attempts.length, found?.furtherAttempts]).toEqual([20, 30]);
  });

  test('cut anywhere it is read as far as it goes; anything else is no capture, and nothing makes it fail', () => {
    const whole = capture(dhcp(5, GUEST), tcp([GUEST, 22], ['10.0.2.2', 1], 0x12));
    for (let length = 0; length < whole.length; length += 1) {
      const found = readPackets(whole.subarray(0, length));
      expect(found === undefined).toBe(length > 0 && length < 24);
      expect(found?.openPorts ?? []).toEqual([]);
    }
    expect(readPackets(Buffer.alloc(100))).toBeUndefined();
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), (bytes) => {
        expect(readPackets(capture(Buffer.from(bytes)))?.packets).toBe(1);
      }),
    );
  });
});
