"""A program that knows nothing of Holdfast: it sends orders to an API whose base address it is given."""
import json
import sys
import urllib.request

base = sys.argv[1]
for number in range(3):
    order = json.dumps({"order": number, "amount": "42.00"}).encode()
    request = urllib.request.Request(f"{base}/api2/simulate?order={number}", data=order, method="POST")
    request.add_header("Content-Type", "application/json")
    # Raises on anything but a 2xx, and ends the program.
    with urllib.request.urlopen(request, timeout=20) as answer:
        print(answer.status)
