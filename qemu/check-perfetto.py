"""Reads a timeline by Perfetto's own definitions, and checks what its trace processor would complain of.

Called by the guest test `observe_trace`. Prints the names of all tracks and slices.
"""

import sys
from collections import Counter

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

trace = pb.Trace()
with open(sys.argv[1], "rb") as file:
    trace.ParseFromString(file.read())
assert trace.packet, "there is nothing in it"

TYPE = pb.TrackEvent.Type
tracks, depth, names, last = {}, Counter(), Counter(), {}
begun, ended = set(), set()
for packet in trace.packet:
    assert packet.trusted_packet_sequence_id == 1, packet
    if packet.HasField("track_descriptor"):
        track = packet.track_descriptor
        assert track.uuid not in tracks, track
        assert not track.parent_uuid or track.parent_uuid in tracks, track
        tracks[track.uuid] = track.name or track.thread.thread_name or track.process.process_name
        assert tracks[track.uuid], track
        continue
    event = packet.track_event
    assert packet.HasField("track_event") and event.track_uuid in tracks, packet
    assert packet.timestamp >= last.get(event.track_uuid, 0), "time goes backwards on a track"
    last[event.track_uuid] = packet.timestamp
    if event.type == TYPE.TYPE_SLICE_BEGIN:
        depth[event.track_uuid] += 1
    elif event.type == TYPE.TYPE_SLICE_END:
        depth[event.track_uuid] -= 1
        assert depth[event.track_uuid] >= 0, f"an end without a beginning on {tracks[event.track_uuid]}"
    else:
        assert event.type == TYPE.TYPE_INSTANT, packet
    if event.type != TYPE.TYPE_SLICE_END:
        assert event.name, packet
        names[event.name] += 1
    begun.update(event.flow_ids)
    for arrow in event.terminating_flow_ids:
        assert arrow in begun, "an arrow without a beginning"
        ended.add(arrow)

assert ended, "nobody was woken"
for name, count in names.most_common():
    print(f"{count:8} {name}")
for name in tracks.values():
    print(f"   track {name}")
