def test_up(production):
    import httpx
    print(httpx.get(production.url+"/health").json())
    print(production.log("worker")[-3000:])
