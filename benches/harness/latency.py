"""A proxy that lets a new connection cost what it costs on AWS: a round trip for TCP and one for TLS 1.3."""
import asyncio
import threading

ROUND_TRIPS = 2


class Latency:
    """Forwards to `endpoint`, from an address for each service; a new connection waits for ROUND_TRIPS times `delay`
    seconds first. `addresses` are the variables that let the SDKs use them."""

    def __init__(self, endpoint, services):
        self.upstream, self.delay, self.loop = int(endpoint.rpartition(":")[2]), 0.0, asyncio.new_event_loop()
        self.addresses, self.servers = {}, []
        for service in services:
            server = self.loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
            self.servers.append(server)
            port = server.sockets[0].getsockname()[1]
            self.addresses[f"AWS_ENDPOINT_URL_{service}"] = f"http://127.0.0.1:{port}"
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    async def _connected(self, reader, writer):
        await asyncio.sleep(ROUND_TRIPS * self.delay)
        to, back = await asyncio.open_connection("127.0.0.1", self.upstream)
        await asyncio.gather(_pump(reader, back), _pump(to, writer))

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


async def _pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()
