"""Reads fields, a JSON list of texts on standard input, with python3-authres and prints what it found as JSON."""
import json, re, sys
import authres

def unescape(s):
    return re.sub(r'\\(.)', r'\1', s)

out = []
for text in json.load(sys.stdin):
    try:
        r = authres.AuthenticationResultsHeader.parse('Authentication-Results: ' + text)
        out.append({'ID': r.authserv_id, 'Methods': [
            {'Method': m.method, 'Value': m.result, 'Reason': unescape(m.reason or ''),
             'Properties': [{'Type': p.type, 'Name': p.name, 'Value': unescape(p.value)} for p in m.properties]} for m in r.results]})
    except Exception as e:
        out.append({'Error': '%s: %s' % (type(e).__name__, e)})
json.dump(out, sys.stdout)
