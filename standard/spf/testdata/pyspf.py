"""Evaluates cases with python3-spf, without network. Standard input: a JSON list of {"Zone", "IP", "HELO", "MailFrom"},
where Zone is {name: [[type, value]]} with the type TIMEOUT for everything that does not stand before it. Output: a
JSON list of {"Result", "Explanation"}."""
import json, socket, sys
import spf

zone = {}


def lookup(name, qtype, strict=True, timeout=None, level=0):
    labels = [l for l in name.split('.') if l]
    if any(len(l) > 63 for l in labels):
        raise spf.TempError('DNS label too long')
    name = '.'.join(labels)
    seen = False
    for rrtype, value in zone.get(name.lower(), []):
        if rrtype == 'TIMEOUT' or rrtype == qtype and value == 'TIMEOUT':
            if seen and rrtype == 'TIMEOUT':
                return
            raise spf.TempError('DNS timeout')
        seen = seen or rrtype == qtype
        if rrtype == 'AAAA':
            value = socket.inet_pton(socket.AF_INET6, value)
        elif rrtype == 'TXT':
            value = (value.encode('utf-8'),)
        elif rrtype == 'MX':
            value = tuple(value)
        yield ((name, rrtype), value)
        if rrtype == 'CNAME' and not level:
            yield from lookup(value, qtype, strict, timeout, 1)


spf.DNSLookup = lookup
out = []
for case in json.load(sys.stdin):
    zone = case['Zone']
    try:
        q = spf.query(i=case['IP'], s=case['MailFrom'], h=case['HELO'], strict=True, receiver='unittest')
        result, _, explanation = q.check()
        out.append({'Result': result, 'Explanation': explanation})
    except Exception as e:
        out.append({'Result': 'exception', 'Explanation': '%s: %s' % (type(e).__name__, e)})
json.dump(out, sys.stdout)
