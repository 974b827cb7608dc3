"""A camera that speaks RTSP over TCP and sends JPEG in RTP (RFC 2435): just enough to be captured."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO

import numpy as np
from cameras import Peer
from PIL import Image

_MOST = 1400
_TICKS = 90_000


def rtsp(colors: Sequence[tuple[int, int, int]], *, every_s: float = 0.05, user: str = "") -> Peer:
    """Sends frames of plain colors; the password `user` (as Basic sends it) is asked for where it is not empty."""

    def serve(peer: socket.socket, number: int) -> None:
        held = b""
        while True:
            while b"\r\n\r\n" not in held:
                piece = peer.recv(65536)
                if not piece:
                    return
                held += piece
            request, _, held = held.partition(b"\r\n\r\n")
            if _answered(peer, request.decode(), user) == "PLAY":
                break
        with suppress(OSError):
            _send(peer, colors, every_s)

    return serve


def _answered(peer: socket.socket, request: str, user: str) -> str:
    verb = request.split()[0]
    place = request.lower().index("cseq:")
    head = f"CSeq: {request[place + 5 :].split()[0]}\r\n"
    body, status = "", "200 OK"
    if user and verb != "OPTIONS" and f"Basic {user}" not in request:
        status, head = "401 Unauthorized", head + 'WWW-Authenticate: Basic realm="camera"\r\n'
        verb = "401"
    elif verb == "OPTIONS":
        head += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
    elif verb == "DESCRIBE":
        body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track\r\n"
        head += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
    elif verb == "SETUP":
        head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 7\r\n"
    else:
        head += "Session: 7\r\n"
    peer.sendall(f"RTSP/1.0 {status}\r\n{head}\r\n{body}".encode())
    return verb


def _send(peer: socket.socket, colors: Sequence[tuple[int, int, int]], every_s: float) -> None:
    sequence = 0
    for number, color in enumerate(colors):
        tables, scan, size = _parts(color)
        for start in range(0, len(scan), _MOST):
            piece = scan[start : start + _MOST]
            head = struct.pack("!I", start)[1:]  # offset, after the type-specific byte
            header = b"\0" + head + bytes([1, 255, size[0] // 8, size[1] // 8])
            header += struct.pack("!BBH", 0, 0, len(tables)) + tables if start == 0 else b""
            last = 0x80 if start + _MOST >= len(scan) else 0
            stamp = int(number * every_s * _TICKS)
            packet = struct.pack("!BBHII", 0x80, last | 26, sequence & 0xFFFF, stamp, 7) + header + piece
            peer.sendall(b"$\0" + struct.pack("!H", len(packet)) + packet)
            sequence += 1
        time.sleep(every_s)


def _parts(color: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> tuple[bytes, bytes, tuple[int, int]]:
    """(quantization tables, scan, size) of a baseline JPEG with the standard Huffman tables, 4:2:0."""
    file = BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), color, np.uint8)).save(file, "JPEG", quality=90, subsampling=2)
    data, place, tables = file.getvalue(), 2, b""
    while data[place + 1] != 0xDA:
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] == 0xDB:
            body = data[place + 4 : place + 2 + length]
            tables += b"".join(body[start + 1 : start + 65] for start in range(0, len(body), 65))
        place += 2 + length
    return tables, data[place + 2 + int.from_bytes(data[place + 2 : place + 4], "big") : -2], size
